// The module mtfa_fast._core: one register_<part>(m) each, defined in bind_<part>.cpp, nothing else.
#include <pybind11/pybind11.h>

namespace py = pybind11;

void register_benchmark(py::module_& m);
void register_engine(py::module_& m);
void register_features(py::module_& m);
void register_int8(py::module_& m);
void register_ops(py::module_& m);
void register_postprocess(py::module_& m);
void register_runtime(py::module_& m);
void register_training(py::module_& m);

PYBIND11_MODULE(_core, m) {
  m.doc() = "The torch-free C++ core of mtfa-fast.";
  register_runtime(m);
  register_features(m);
  register_postprocess(m);
  register_engine(m);
  register_int8(m);
  register_ops(m);
  register_training(m);
  register_benchmark(m);
}
