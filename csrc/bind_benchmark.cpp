#include <pybind11/pybind11.h>

#include <chrono>
#include <stdexcept>
#include <string>

#include "core/kernels/peak.h"
#include "core/thread_pool.h"

namespace py = pybind11;
using namespace mtfa;

namespace {

// Operations a second of all threads together, the best of some runs of a few milliseconds: what a moment without
// other work on the machine allows.
double peak_flops(const std::string& isa, bool bf16, int threads) {
  const Isa chosen = parse_isa(isa);
  auto* run = bf16 ? MTFA_SELECT(chosen, peak_bf16) : MTFA_SELECT(chosen, peak_fp32);
  ThreadPool& pool = shared_pool(threads);
  py::gil_scoped_release release;
  if (run(1) == 0) return 0;
  const auto seconds = [&](int64_t steps) {
    const auto start = std::chrono::steady_clock::now();
    pool.run(threads, [&](int) { run(steps); });
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  int64_t steps = 1000;
  while (seconds(steps) < 5e-3) steps *= 2;
  double best = seconds(steps);
  for (int i = 0; i < 20; ++i) best = std::min(best, seconds(steps));
  return threads * run(1) * static_cast<double>(steps) / best;
}

}  // namespace

void register_benchmark(py::module_& m) {
  m.def("peak_flops", &peak_flops, py::arg("isa"), py::arg("bf16"), py::arg("threads"),
        "Multiply-adds on registers with an instruction set, in floating-point operations a second, measured in some "
        "0.2 s; 0 where it has no bf16 products. ValueError for an instruction set that the machine lacks.");
}
