// NumPy views of tensors as the core takes them, checked before it sees them. bfloat16 comes as int16, its bits.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "core/engine.h"
#include "core/isa.h"
#include "core/pointwise.h"

namespace py = pybind11;
using namespace mtfa;

using Shape = std::vector<py::ssize_t>;

// NumPy's type of the same size as a T.
template <class T>
struct Element {
  using type = T;
};
template <>
struct Element<Bf16> {
  using type = int16_t;
};

template <class T>
bool holds(const py::array& array) {
  return py::isinstance<py::array_t<typename Element<T>::type>>(array);
}

inline std::string text(const Shape& shape) { return py::str(py::tuple(py::cast(shape))); }

inline void require_shape(const char* name, const py::array& array, const Shape& allowed) {
  const Shape given(array.shape(), array.shape() + array.ndim());
  if (given != allowed)
    throw std::invalid_argument(name + (": got shape " + text(given) + ", allowed: " + text(allowed)));
}

// Memory of an array of exactly this type, shape and order, without a copy.
template <class T>
const T* values(const char* name, const py::array& array, const Shape& shape) {
  require_shape(name, array, shape);
  if (!holds<T>(array) || !(array.flags() & py::array::c_style)) {
    throw std::invalid_argument(std::string(name) + ": got " + py::str(array.dtype()).cast<std::string>() +
                                ", allowed: the element type of the others, C-contiguous");
  }
  return static_cast<const T*>(array.data());
}

template <class T>
T* writable(const char* name, py::array& array, const Shape& shape) {
  values<T>(name, array, shape);
  return static_cast<T*>(array.mutable_data());  // throws for a read-only array
}

// Calls run(T{}) with the element type of an array.
template <class Run>
void with_type(const char* name, const py::array& array, Run run) {
  if (holds<float>(array)) return run(float{});
  if (holds<Bf16>(array)) return run(Bf16{});
  throw std::invalid_argument(std::string(name) + ": got " + py::str(array.dtype()).cast<std::string>() +
                              ", allowed: float32, or int16 for bfloat16");
}

inline MapShape map_shape(const char* name, const py::array& map) {
  if (map.ndim() != 4) throw std::invalid_argument(std::string(name) + ": allowed: (B, T, D, C)");
  if (map.shape(3) < 1 || map.shape(3) % 16) {
    throw std::invalid_argument(std::string(name) + ": got " + std::to_string(map.shape(3)) +
                                " channels, allowed: a multiple of 16");
  }
  if (map.shape(2) * map.shape(3) > std::numeric_limits<int>::max() / 64) {
    throw std::invalid_argument(std::string(name) + ": got rows of " + std::to_string(map.shape(2) * map.shape(3)) +
                                " values, allowed: < 2^25");
  }
  return {map.shape(0), map.shape(1), static_cast<int>(map.shape(2)), static_cast<int>(map.shape(3))};
}

inline Shape full(const MapShape& s) { return {s.batch, s.rows, s.width, s.channels}; }
inline Shape half(const MapShape& s) { return {s.batch, (s.rows + 1) / 2, (s.width + 1) / 2, s.channels}; }

// The process's instruction set, which must have products of a T.
template <class T>
Isa isa_with(const char* argument) {
  const Isa isa = chosen_isa();
  if (std::is_same_v<T, Bf16> && !kernels_of(isa).bf16) {
    throw std::invalid_argument(std::string(argument) + ": bfloat16 needs AVX-512 BF16, this process uses " +
                                name(isa));
  }
  return isa;
}
