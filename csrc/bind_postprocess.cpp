#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/calibration.h"
#include "core/detect_runs.h"
#include "core/live_runs.h"
#include "core/median_filter.h"

namespace py = pybind11;

namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

std::string describe(const py::array& array) {
  return py::str(array.dtype()).cast<std::string>() + " " + py::str(py::tuple(array.attr("shape"))).cast<std::string>();
}

// x (T,) or (..., T, K): every column of every leading index on its own.
template <class T, class Filter>
py::array filter_columns(const Array<T>& x, Filter filter) {
  const int64_t dims = x.ndim();
  const int64_t frames = x.shape(dims == 1 ? 0 : dims - 2), columns = dims == 1 ? 1 : x.shape(dims - 1);
  const int64_t block = frames * columns, blocks = block > 0 ? x.size() / block : 0;
  Array<T> out(std::vector<py::ssize_t>(x.shape(), x.shape() + dims));
  const T* from = x.data();
  T* to = out.mutable_data();
  py::gil_scoped_release release;
  for (int64_t b = 0; b < blocks; ++b) {
    for (int64_t k = 0; k < columns; ++k) filter(from + b * block + k, frames, columns, to + b * block + k);
  }
  return std::move(out);
}

template <class T>
py::array median(const py::array& x, int64_t window) {
  return filter_columns<T>(x, [window](const T* in, int64_t frames, int64_t stride, T* out) {
    mtfa::median_filter(in, frames, stride, window, out);
  });
}

py::array median_filter(const py::array& x, int64_t window) {
  mtfa::require_window(window);
  if (x.ndim() >= 1) {
    if (py::isinstance<py::array_t<float>>(x)) return median<float>(x, window);
    if (py::isinstance<py::array_t<double>>(x)) return median<double>(x, window);
    if (py::isinstance<py::array_t<bool>>(x)) {
      return filter_columns<bool>(x, [window](const bool* in, int64_t frames, int64_t stride, bool* out) {
        mtfa::majority_filter(reinterpret_cast<const uint8_t*>(in), frames, stride, window,
                              reinterpret_cast<uint8_t*>(out));
      });
    }
  }
  throw std::invalid_argument("x: got " + describe(x) + ", allowed: float32, float64 or bool, (T,) or (..., T, K)");
}

// Runs as NumPy arrays: classes (n,), bounds (n, 2), peaks (n,).
template <class T>
py::tuple arrays_of(const std::vector<mtfa::Run<T>>& runs) {
  const auto count = static_cast<py::ssize_t>(runs.size());
  Array<int64_t> event_classes(count), bounds({count, py::ssize_t{2}});
  Array<T> peaks(count);
  for (size_t i = 0; i < runs.size(); ++i) {
    event_classes.mutable_data()[i] = runs[i].event_class;
    bounds.mutable_data()[2 * i] = runs[i].first;
    bounds.mutable_data()[2 * i + 1] = runs[i].last;
    peaks.mutable_data()[i] = runs[i].peak;
  }
  return py::make_tuple(event_classes, bounds, peaks);
}

template <class T>
py::tuple runs_of(const Array<T>& probabilities, const Array<T>& thresholds, const std::vector<int64_t>& windows) {
  const int64_t frames = probabilities.shape(0), classes = probabilities.shape(1);
  const T* from = probabilities.data();
  const T* limits = thresholds.data();
  std::vector<mtfa::Run<T>> runs;
  {
    py::gil_scoped_release release;
    runs = mtfa::detect_runs(from, frames, classes, limits, windows.data());
  }
  return arrays_of(runs);
}

struct LiveClasses {
  mtfa::LiveRuns runs;
  py::ssize_t count;
};

std::unique_ptr<LiveClasses> live_classes(const std::vector<float>& thresholds, const std::vector<int64_t>& windows,
                                          const std::vector<float>& minimum_scores) {
  if (windows.size() != thresholds.size() || minimum_scores.size() != thresholds.size()) {
    throw std::invalid_argument("thresholds, windows, minimum_scores: allowed: one a class");
  }
  std::vector<mtfa::LiveDecision> classes;
  for (size_t k = 0; k < windows.size(); ++k) classes.push_back({thresholds[k], windows[k], minimum_scores[k]});
  return std::make_unique<LiveClasses>(LiveClasses{mtfa::LiveRuns(classes), static_cast<py::ssize_t>(classes.size())});
}

py::tuple push_rows(LiveClasses& live, const Array<float>& rows) {
  if (rows.ndim() != 2 || rows.shape(1) != live.count) {
    throw std::invalid_argument("probabilities: got " + describe(rows) + ", allowed: (n, " +
                                std::to_string(live.count) + ")");
  }
  std::vector<mtfa::Run<float>> ended, begun;
  live.runs.push(rows.data(), rows.shape(0), ended, begun);
  return py::make_tuple(arrays_of(ended), arrays_of(begun));
}

py::tuple detect_runs(const py::array& probabilities, const Array<double>& thresholds,
                      const std::vector<int64_t>& windows) {
  const bool single = py::isinstance<py::array_t<float>>(probabilities);
  if (probabilities.ndim() != 2 || (!single && !py::isinstance<py::array_t<double>>(probabilities))) {
    throw std::invalid_argument("probabilities: got " + describe(probabilities) +
                                ", allowed: float32 or float64 (T, K)");
  }
  const auto classes = probabilities.shape(1);
  if (thresholds.ndim() != 1 || thresholds.shape(0) != classes) {
    throw std::invalid_argument("thresholds: got " + describe(thresholds) + ", allowed: " + std::to_string(classes) +
                                " numbers, one a class");
  }
  if (static_cast<py::ssize_t>(windows.size()) != classes) {
    throw std::invalid_argument("windows: got " + std::to_string(windows.size()) +
                                " values, allowed: " + std::to_string(classes) + ", one a class");
  }
  return single ? runs_of<float>(probabilities, Array<float>(thresholds), windows)
                : runs_of<double>(probabilities, thresholds, windows);
}

}  // namespace

void register_postprocess(py::module_& m) {
  m.def(
      "calibrated", [](float peak, double slope, double offset) { return mtfa::calibrated(peak, {slope, offset}); },
      py::arg("peak"), py::arg("slope"), py::arg("offset"),
      "sigmoid(slope * logit(peak) + offset), as float32: the score of an event whose highest probability is peak.");
  m.def("median_filter", &median_filter, py::arg("x"), py::arg("window"),
        R"(Median along time with zeros beyond the ends, as scipy.signal.medfilt.

x (T,) or (..., T, K), time second to last, float32, float64 or bool; window odd. Exact; a window that holds a NaN
gives NaN; zeros and ones are counted. Returns x's shape and dtype. ValueError for anything else.)");
  py::class_<LiveClasses>(m, "LiveRuns",
                          R"(The decision of detect_runs, and a smallest score, while probabilities come in.

push() and finish() return what ended and what began: two times classes, bounds and peaks as of detect_runs.)")
      .def(py::init(&live_classes), py::arg("thresholds"), py::arg("windows"), py::arg("minimum_scores"))
      .def_property_readonly("delay", [](const LiveClasses& live) { return live.runs.delay(); })
      .def("push", &push_rows, py::arg("probabilities"), "float32 (n, K) more.")
      .def("finish", [](LiveClasses& live) {
        std::vector<mtfa::Run<float>> ended, begun;
        live.runs.finish(ended, begun);
        return py::make_tuple(arrays_of(ended), arrays_of(begun));
      });
  m.def("detect_runs", &detect_runs, py::arg("probabilities"), py::arg("thresholds"), py::arg("windows"),
        R"(Threshold, median filter and runs of what remains.

probabilities (T, K) float32 or float64; thresholds and odd windows, one a class. A frame is active where its
probability is greater than the threshold in the probabilities' own type; NaN is not. Returns, in order of class and
time: classes int64 (n,), bounds int64 (n, 2) with the first frame and the one after the last, peaks (n,), the highest
probability of each run. ValueError for anything else.)");
}
