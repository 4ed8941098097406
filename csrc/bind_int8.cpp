#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/int8.h"
#include "core/pack_int8.h"

namespace py = pybind11;
using namespace mtfa;

namespace {

using Bytes = py::array_t<uint8_t, py::array::c_style>;
using Floats = py::array_t<float, py::array::c_style | py::array::forcecast>;

const Int8Kernels& kernels_named(const std::string& name) {
  std::string allowed;
  for (const Int8Kernels& each : int8_kernels()) {
    if (each.name == name) return each;
    allowed += (allowed.empty() ? "" : ", ") + each.name;
  }
  throw std::invalid_argument("kernels: got '" + name + "', allowed on this machine: " + allowed);
}

const float* checked(const char* name, const Floats& array, const std::vector<py::ssize_t>& shape) {
  if (!std::equal(shape.begin(), shape.end(), array.shape(), array.shape() + array.ndim()))
    throw std::invalid_argument(std::string(name) + ": wrong shape");
  return array.data();
}

// Rows of a map with their padding, channels filled up with zeros; a row of zeros before and two after.
struct PaddedMap {
  PaddedMap(const Bytes* map, py::ssize_t rows, py::ssize_t width, int channels)
      : padded(int8_channels(channels)),
        stride((width + 5) * padded),
        memory(static_cast<size_t>((rows + 3) * stride + kReadAhead * padded)) {
    if (!map) return;
    for (py::ssize_t t = 0; t < rows; ++t) {
      for (py::ssize_t x = 0; x < width; ++x) std::copy_n(map->data(t, x, 0), channels, row(t) + (x + 1) * padded);
    }
  }
  uint8_t* row(py::ssize_t t) { return memory.data() + (t + 1) * stride; }
  int padded;
  ptrdiff_t stride;
  AlignedArray<uint8_t> memory;
};

Bytes convolution(const std::string& kernels, const Bytes& map, const Floats& weight, const Floats& bias,
                  const Floats& step, const Floats& transformed_step, const Floats& out_step,
                  const std::optional<Bytes>& residual, const std::optional<Floats>& residual_step) {
  if (map.ndim() != 3 || map.size() == 0)
    throw std::invalid_argument("map: allowed: (rows, width, channels), not empty");
  const py::ssize_t rows = map.shape(0), width = map.shape(1), c = map.shape(2);
  const int channels = static_cast<int>(c);
  if (residual.has_value() != residual_step.has_value())
    throw std::invalid_argument("residual: allowed: with residual_step, or neither");
  if (residual && !std::equal(map.shape(), map.shape() + 3, residual->shape(), residual->shape() + residual->ndim()))
    throw std::invalid_argument("residual: allowed: the map's shape");
  const Int8Kernels& chosen = kernels_named(kernels);
  const Int8Steps steps{checked("step", step, {c}), checked("transformed_step", transformed_step, {kInt8Positions, c}),
                        checked("out_step", out_step, {c}),
                        residual_step ? checked("residual_step", *residual_step, {c}) : nullptr};
  const auto packed = pack_conv_int8(checked("weight", weight, {c, c, 3, 3}), checked("bias", bias, {c}), channels,
                                     steps, *chosen.table);
  PaddedMap in(&map, rows, width, channels), skip(residual ? &*residual : nullptr, rows, width, channels);
  PaddedMap out(nullptr, rows, width, channels);
  for (py::ssize_t t = 0; t < rows; t += 2) {
    const bool both = t + 1 < rows;
    chosen.typed.conv3x3({{in.row(t - 1), in.row(t), in.row(t + 1), both ? in.row(t + 2) : in.row(-1)},
                          {residual ? skip.row(t) : nullptr, residual && both ? skip.row(t + 1) : nullptr},
                          {out.row(t), both ? out.row(t + 1) : nullptr},
                          static_cast<int>(width),
                          in.padded,
                          packed.weights.data(),
                          packed.bias.data(),
                          true,
                          packed.blocks});
  }
  Bytes answer({rows, width, c});
  for (py::ssize_t t = 0; t < rows; ++t) {
    for (py::ssize_t x = 0; x < width; ++x)
      std::copy_n(out.row(t) + (x + 1) * out.padded, channels, answer.mutable_data(t, x, 0));
  }
  return answer;
}

}  // namespace

void register_int8(py::module_& m) {
  m.def(
      "int8_kernels",
      [] {
        std::vector<std::string> names;
        for (const Int8Kernels& each : int8_kernels()) names.push_back(each.name);
        return names;
      },
      "Kernels for 8-bit maps that this machine can run: instruction sets, and those that VNNI adds to two of them.");
  m.def(
      "int8_products", [](const std::string& isa) { return int8_kernels(parse_isa(isa)).products; }, py::arg("isa"),
      "The instruction that makes 8-bit products where an instruction set runs.");
  m.def("int8_conv3x3", &convolution, py::arg("kernels"), py::arg("map"), py::arg("weight"), py::arg("bias"),
        py::arg("step"), py::arg("transformed_step"), py::arg("out_step"), py::arg("residual") = py::none(),
        py::arg("residual_step") = py::none(),
        "For checks: relu(conv(map) + bias [+ residual]) as 8-bit maps (rows, width, channels), by the kernels of that "
        "name; steps (channels), those of the transformed input (24, channels).");
}
