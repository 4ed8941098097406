#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "core/isa.h"
#include "core/thread_pool.h"

namespace py = pybind11;

void register_runtime(py::module_& m) {
  m.def(
      "available_isas",
      [] {
        std::vector<std::string> names;
        for (mtfa::Isa isa : mtfa::available_isas()) names.emplace_back(mtfa::name(isa));
        return names;
      },
      "Instruction sets built into this binary that the machine has, weakest first.");
  m.def(
      "chosen_isa", [] { return std::string(mtfa::name(mtfa::chosen_isa())); },
      "The instruction set that runs: MTFA_FAST_ISA's, else the best. ValueError for one the machine lacks.");
  m.def("has_avx512_bf16", &mtfa::has_avx512_bf16, "Whether AVX512_BF16 can be used here.");
  m.def("default_threads", &mtfa::default_threads,
        "Cores that this process may use: its affinity, and its control group's CPU quota rounded up.");
}
