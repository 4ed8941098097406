#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>
#include <stdexcept>
#include <string>

#include "core/log_mel.h"
#include "core/thread_pool.h"

namespace py = pybind11;
using mtfa::LogMel;

namespace {

using Array = py::array_t<float, py::array::c_style | py::array::forcecast>;

std::string shape_of(const Array& array) { return py::str(py::tuple(array.attr("shape"))); }

std::shared_ptr<LogMel> make_log_mel(const Array& window, const Array& mel, int64_t hop, int64_t fft_length,
                                     double floor) {
  if (window.ndim() != 1) throw std::invalid_argument("window: got shape " + shape_of(window) + ", allowed: (n,)");
  if (mel.ndim() != 2 || fft_length < 2 || mel.shape(1) != fft_length / 2 + 1) {
    throw std::invalid_argument("mel: got shape " + shape_of(mel) +
                                ", allowed: (bands, fft_length / 2 + 1) with fft_length " + std::to_string(fft_length));
  }
  return std::make_shared<LogMel>(window.data(), window.size(), mel.data(), mel.shape(0), hop, fft_length, floor);
}

Array frames(const LogMel& log_mel, const Array& samples, int threads) {
  if (samples.ndim() != 1) throw std::invalid_argument("samples: got shape " + shape_of(samples) + ", allowed: (n,)");
  mtfa::ThreadPool& pool = mtfa::shared_pool(threads);
  const int64_t n = samples.size();
  Array out({static_cast<py::ssize_t>(1 + n / log_mel.hop()), static_cast<py::ssize_t>(log_mel.mel_bands())});
  const float* from = samples.data();
  float* to = out.mutable_data();
  py::gil_scoped_release release;
  log_mel.frames(from, n, to, pool);
  return out;
}

// Tests that frames do not depend on how a recording is cut.
Array part(const LogMel& log_mel, const Array& samples, int64_t sample_offset, int64_t first, int64_t count) {
  if (samples.ndim() != 1) throw std::invalid_argument("samples: got shape " + shape_of(samples) + ", allowed: (n,)");
  if (count < 0) throw std::invalid_argument("count: got " + std::to_string(count) + ", allowed: >= 0");
  Array out({static_cast<py::ssize_t>(count), static_cast<py::ssize_t>(log_mel.mel_bands())});
  const float* from = samples.data();
  const int64_t available = samples.size();
  float* to = out.mutable_data();
  py::gil_scoped_release release;
  log_mel.frames(from, available, sample_offset, first, count, to);
  return out;
}

}  // namespace

void register_features(py::module_& m) {
  py::class_<LogMel, std::shared_ptr<LogMel>>(m, "LogMel", R"(Log-mel spectrogram; immutable, for any number of threads.

window (window_length,), mel (bands, fft_length / 2 + 1), both float32; hop in samples; fft_length a power of two.
ValueError names an argument out of range.)")
      .def(py::init(&make_log_mel), py::arg("window"), py::arg("mel"), py::arg("hop"), py::arg("fft_length"),
           py::arg("log_floor"))
      .def_property_readonly("mel_bands", &LogMel::mel_bands)
      .def("frames", &frames, py::arg("samples"), py::arg("threads"),
           "A whole recording (n,) -> (1 + n // hop, bands) float32; edges read as zero.")
      .def("part", &part, py::arg("samples"), py::arg("sample_offset"), py::arg("first"), py::arg("count"),
           "Frames [first, first + count), where `samples` begin at sample `sample_offset` of the recording and every "
           "other sample reads as zero.");
}
