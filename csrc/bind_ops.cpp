// The ops of mtfa_fast/backends/cpu over NumPy views of tensors. bfloat16 comes as int16, its bits.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "core/bigru.h"
#include "core/block_training.h"
#include "core/engine.h"
#include "core/fingerprint.h"
#include "core/gru_training.h"
#include "core/pack.h"
#include "core/pointwise.h"
#include "core/residual_block.h"

namespace py = pybind11;
using namespace mtfa;

namespace {

using Shape = std::vector<py::ssize_t>;
using Floats = py::array_t<float, py::array::c_style | py::array::forcecast>;

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

std::string text(const Shape& shape) { return py::str(py::tuple(py::cast(shape))); }

void require_shape(const char* name, const py::array& array, const Shape& allowed) {
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

MapShape map_shape(const char* name, const py::array& map) {
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

Shape full(const MapShape& s) { return {s.batch, s.rows, s.width, s.channels}; }
Shape half(const MapShape& s) { return {s.batch, (s.rows + 1) / 2, (s.width + 1) / 2, s.channels}; }

void bind_upsample_add(const py::array& low, const py::array& skip, py::array& out, int threads) {
  with_type("skip", skip, [&](auto type) {
    using T = decltype(type);
    const MapShape shape = map_shape("skip", skip);
    const T* from[] = {values<T>("low", low, half(shape)), values<T>("skip", skip, full(shape))};
    T* to = writable<T>("out", out, full(shape));
    const Kernels& kernels = kernels_of(chosen_isa());
    ThreadPool& pool = shared_pool(threads);
    py::gil_scoped_release release;
    upsample_add(from[0], from[1], to, shape, kernels, pool);
  });
}

void bind_attention_gate(const py::array& logits, const py::array& features, py::array& out, int threads) {
  with_type("features", features, [&](auto type) {
    using T = decltype(type);
    const Shape shape{features.size()};
    const T* from[] = {values<T>("logits", logits, shape), values<T>("features", features, shape)};
    T* to = writable<T>("out", out, shape);
    const Kernels& kernels = kernels_of(chosen_isa());
    ThreadPool& pool = shared_pool(threads);
    py::gil_scoped_release release;
    attention_gate(from[0], from[1], to, shape[0], kernels, pool);
  });
}

void bind_upsample_add_gate(const py::array& low, const py::array& skip, const py::array& features, py::array& out,
                            int threads) {
  with_type("features", features, [&](auto type) {
    using T = decltype(type);
    const MapShape shape = map_shape("features", features);
    const T* from[] = {values<T>("low", low, half(shape)), values<T>("skip", skip, full(shape)),
                       values<T>("features", features, full(shape))};
    T* to = writable<T>("out", out, full(shape));
    const Kernels& kernels = kernels_of(chosen_isa());
    ThreadPool& pool = shared_pool(threads);
    py::gil_scoped_release release;
    upsample_add_gate(from[0], from[1], from[2], to, shape, kernels, pool);
  });
}

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

void bind_upsample_add_backward(const py::array& grad, py::array& d_low, int threads) {
  with_type("grad", grad, [&](auto type) {
    using T = decltype(type);
    const MapShape shape = map_shape("grad", grad);
    const T* from = values<T>("grad", grad, full(shape));
    T* to = writable<T>("d_low", d_low, half(shape));
    const Isa isa = isa_with<T>("grad");
    ThreadPool& pool = shared_pool(threads);
    py::gil_scoped_release release;
    upsample_add_backward(from, to, shape, isa, pool);
  });
}

void bind_attention_gate_backward(const py::array& grad, const py::array& logits, const py::array& features,
                                  py::array& d_logits, py::array& d_features, int threads) {
  with_type("features", features, [&](auto type) {
    using T = decltype(type);
    const Shape shape{features.size()};
    const AttentionGradients<T> maps = {
        values<T>("grad", grad, shape), values<T>("logits", logits, shape), values<T>("features", features, shape),
        writable<T>("d_logits", d_logits, shape), writable<T>("d_features", d_features, shape)};
    const Isa isa = isa_with<T>("features");
    ThreadPool& pool = shared_pool(threads);
    py::gil_scoped_release release;
    attention_gate_backward(maps, shape[0], isa, pool);
  });
}

void bind_upsample_add_gate_backward(const py::array& grad, const py::array& low, const py::array& skip,
                                     const py::array& features, py::array& d_low, py::array& d_skip,
                                     py::array& d_features, int threads) {
  with_type("features", features, [&](auto type) {
    using T = decltype(type);
    const MapShape shape = map_shape("features", features);
    const GateGradients<T> maps = {values<T>("grad", grad, full(shape)),
                                   values<T>("low", low, half(shape)),
                                   values<T>("skip", skip, full(shape)),
                                   values<T>("features", features, full(shape)),
                                   writable<T>("d_low", d_low, half(shape)),
                                   writable<T>("d_skip", d_skip, full(shape)),
                                   writable<T>("d_features", d_features, full(shape))};
    const Isa isa = isa_with<T>("features");
    ThreadPool& pool = shared_pool(threads);
    py::gil_scoped_release release;
    upsample_add_gate_backward(maps, shape, isa, pool);
  });
}

// A (B, C, T, D) array of any strides that are whole elements.
template <class T, class Array>
StridedMap<T> strided(const char* name, const py::array& array, Array* data) {
  StridedMap<T> map{static_cast<T*>(data), {}};
  for (int i = 0; i < 4; ++i) {
    if (array.strides(i) % static_cast<py::ssize_t>(sizeof(T))) {
      throw std::invalid_argument(std::string(name) + ": allowed: strides of whole elements");
    }
    map.strides[i] = array.strides(i) / static_cast<py::ssize_t>(sizeof(T));
  }
  return map;
}

template <class T>
void run_block(const ResidualBlock<T>& block, const py::array& x, py::array& out, int threads) {
  if (x.ndim() != 4 || x.shape(1) != block.channels() || !holds<T>(x)) {
    throw std::invalid_argument("x: allowed: (B, " + std::to_string(block.channels()) + ", T, D) of the block's type");
  }
  const Shape shape(x.shape(), x.shape() + 4);
  require_shape("out", out, shape);
  if (!holds<T>(out)) throw std::invalid_argument("out: allowed: x's element type");
  if (shape[3] * round_up(block.channels(), 16) > std::numeric_limits<int>::max() / 64) {
    throw std::invalid_argument("x: got rows of " + std::to_string(shape[3]) + " pixels, allowed: C * D < 2^25");
  }
  if (x.size() == 0) return;
  const auto from = strided<const T>("x", x, x.data());
  const auto to = strided<T>("out", out, out.mutable_data());
  ThreadPool& pool = shared_pool(threads);
  py::gil_scoped_release release;
  block.run(from, to, shape[0], shape[2], static_cast<int>(shape[3]), pool);
}

template <class T>
void bind_block(py::module_& m, const char* name) {
  py::class_<ResidualBlock<T>>(m, name, "A residual block's packed weights; any number of threads may use one.")
      .def(py::init([](const Floats& w1, const Floats& b1, const Floats& w2, const Floats& b2) {
             const py::ssize_t channels = b1.size();
             if (channels < 1 || channels > 4096) {
               throw std::invalid_argument("b1: got " + std::to_string(channels) + " channels, allowed: 1 to 4096");
             }
             require_shape("w1", w1, {channels, channels, 3, 3});
             require_shape("b1", b1, {channels});
             require_shape("w2", w2, {channels, channels, 3, 3});
             require_shape("b2", b2, {channels});
             const float* data[] = {w1.data(), b1.data(), w2.data(), b2.data()};
             const Kernels& kernels = kernels_of(chosen_isa());
             py::gil_scoped_release release;
             return std::make_unique<ResidualBlock<T>>(static_cast<int>(channels), data[0], data[1], data[2], data[3],
                                                       kernels);
           }),
           py::arg("w1"), py::arg("b1"), py::arg("w2"), py::arg("b2"))
      .def("run", &run_block<T>, py::arg("x"), py::arg("out"), py::arg("threads"),
           "x, out (B, C, T, D) of any strides, not overlapping.");
}

std::unique_ptr<BiGru> make_bigru(const std::vector<Floats>& weights) {
  constexpr py::ssize_t kLargest = 1 << 16;
  if (weights.empty() || weights.size() % 8 || weights[0].ndim() != 2 || weights[1].ndim() != 2) {
    throw std::invalid_argument("weights: allowed: torch.nn.GRU's eight tensors for each layer");
  }
  const py::ssize_t inputs = weights[0].shape(1), hidden = weights[1].shape(1);
  if (hidden < 1 || hidden > kLargest || inputs > kLargest) {
    throw std::invalid_argument("weights: got " + std::to_string(inputs) + " inputs, " + std::to_string(hidden) +
                                " hidden units, allowed: hidden >= 1, both at most 2^16");
  }
  std::vector<std::array<GruTensors, 2>> layers(weights.size() / 8);
  for (size_t i = 0; i < weights.size(); i += 4) {
    require_shape("weights: w_ih", weights[i], {3 * hidden, i < 8 ? inputs : 2 * hidden});
    require_shape("weights: w_hh", weights[i + 1], {3 * hidden, hidden});
    require_shape("weights: b_ih", weights[i + 2], {3 * hidden});
    require_shape("weights: b_hh", weights[i + 3], {3 * hidden});
    layers[i / 8][i / 4 % 2] = {weights[i].data(), weights[i + 1].data(), weights[i + 2].data(), weights[i + 3].data()};
  }
  const Kernels& kernels = kernels_of(chosen_isa());
  py::gil_scoped_release release;
  return std::make_unique<BiGru>(layers, static_cast<int>(inputs), static_cast<int>(hidden), kernels);
}

void run_bigru(const BiGru& gru, const py::array& x, py::array& out, py::array& last, int threads) {
  if (x.ndim() != 3 || x.shape(1) < 1) throw std::invalid_argument("x: allowed: (B, T >= 1, I)");
  const py::ssize_t batch = x.shape(0), frames = x.shape(1), hidden = gru.hidden();
  const float* from = values<float>("x", x, {batch, frames, gru.inputs()});
  float* to = writable<float>("out", out, {batch, frames, 2 * hidden});
  float* states = writable<float>("last", last, {2 * gru.layers(), batch, hidden});
  ThreadPool& pool = shared_pool(threads);
  py::gil_scoped_release release;
  gru.run(from, batch, frames, to, states, pool);
}

// Sizes of a layer's recurrence, read from its gates (B, T, 2, 4, H).
GruTraining training_of(const py::array& gates) {
  constexpr py::ssize_t kLargest = 1 << 16;
  if (gates.ndim() != 5 || gates.shape(1) < 1 || gates.shape(4) < 1 || gates.shape(4) > kLargest) {
    throw std::invalid_argument("gates: allowed: (B, T >= 1, 2, 4, 1 <= H <= 2^16)");
  }
  return {gates.shape(0), gates.shape(1), static_cast<int>(gates.shape(4)), chosen_isa()};
}

void bind_gru_forward(const py::array& projected, const py::array& weights, const py::array& bias_new,
                      py::array& states, py::array& gates, int threads) {
  const GruTraining run = training_of(gates);
  const py::ssize_t b = run.batch, t = run.frames, h = run.hidden;
  const float* from[] = {values<float>("projected", projected, {b, t, 2, 3 * h}),
                         values<float>("weights", weights, {2, 3 * h, h}), values<float>("bias_new", bias_new, {2, h})};
  float* to[] = {writable<float>("states", states, {b, t, 2 * h}), writable<float>("gates", gates, {b, t, 2, 4, h})};
  ThreadPool& pool = shared_pool(threads);
  py::gil_scoped_release release;
  run.forward(from[0], from[1], from[2], to[0], to[1], pool);
}

void bind_gru_backward(const py::array& d_states, const py::array& states, const py::array& gates,
                       const py::array& weights, py::array& d_projected, py::array& d_new, int threads) {
  const GruTraining run = training_of(gates);
  const py::ssize_t b = run.batch, t = run.frames, h = run.hidden;
  const float* from[] = {values<float>("d_states", d_states, {b, t, 2 * h}),
                         values<float>("states", states, {b, t, 2 * h}), values<float>("gates", gates, {b, t, 2, 4, h}),
                         values<float>("weights", weights, {2, 3 * h, h})};
  float* to[] = {writable<float>("d_projected", d_projected, {b, t, 2, 3 * h}),
                 writable<float>("d_new", d_new, {b, t, 2, h})};
  ThreadPool& pool = shared_pool(threads);
  py::gil_scoped_release release;
  run.backward(from[0], from[1], from[2], from[3], to[0], to[1], pool);
}

// Of maps that training takes: not empty.
MapShape training_shape(const py::array& x) {
  const MapShape shape = map_shape("x", x);
  if (x.size() == 0 || shape.channels > 4096) throw std::invalid_argument("x: allowed: (B, T, D, C) >= 1, C <= 4096");
  return shape;
}

void bind_conv3x3(const py::array& x, const py::array& weight, py::array& out, int threads) {
  with_type("x", x, [&](auto type) {
    using T = decltype(type);
    const MapShape shape = training_shape(x);
    const int c = shape.channels;
    const T* from = values<T>("x", x, full(shape));
    const float* weights = values<float>("weight", weight, {c, c, 3, 3});
    T* to = writable<T>("out", out, full(shape));
    const Isa isa = isa_with<T>("x");
    ThreadPool& pool = shared_pool(threads);
    py::gil_scoped_release release;
    conv3x3(from, weights, to, shape, isa, pool);
  });
}

void bind_conv3x3_backward(const py::array& grad, const py::array& x, const py::array& weight, py::array& d_x,
                           py::array& d_weight, int threads) {
  with_type("x", x, [&](auto type) {
    using T = decltype(type);
    const MapShape shape = training_shape(x);
    const int c = shape.channels;
    const T* from[] = {values<T>("grad", grad, full(shape)), values<T>("x", x, full(shape))};
    const float* weights = values<float>("weight", weight, {c, c, 3, 3});
    T* to = writable<T>("d_x", d_x, full(shape));
    float* d_weights = writable<float>("d_weight", d_weight, {c, 3, 3, c});
    const Isa isa = isa_with<T>("x");
    ThreadPool& pool = shared_pool(threads);
    py::gil_scoped_release release;
    conv3x3_backward(from[0], from[1], weights, to, d_weights, shape, isa, pool);
  });
}

template <class T>
BlockTraining<T> block_training(const MapShape& shape, const py::array& w1, const py::array& w2, const py::array& norms,
                                double epsilon) {
  const int c = shape.channels;
  return {shape,
          values<float>("w1", w1, {c, c, 3, 3}),
          values<float>("w2", w2, {c, c, 3, 3}),
          values<float>("norms", norms, {4, c}),
          epsilon,
          isa_with<T>("x")};
}

void bind_block_forward(const py::array& x, const py::array& w1, const py::array& w2, const py::array& norms,
                        double epsilon, py::array& y1, py::array& y2, py::array& out, py::array& statistics,
                        int threads) {
  with_type("x", x, [&](auto type) {
    using T = decltype(type);
    const MapShape shape = training_shape(x);
    const auto block = block_training<T>(shape, w1, w2, norms, epsilon);
    const T* from = values<T>("x", x, full(shape));
    T* to[] = {writable<T>("y1", y1, full(shape)), writable<T>("y2", y2, full(shape)),
               writable<T>("out", out, full(shape))};
    float* moments = writable<float>("statistics", statistics, {4, shape.channels});
    ThreadPool& pool = shared_pool(threads);
    py::gil_scoped_release release;
    block.forward(from, to[0], to[1], to[2], moments, pool);
  });
}

void bind_block_backward(const py::array& grad, const py::array& x, const py::array& y1, const py::array& y2,
                         const py::array& out, const py::array& statistics, const py::array& w1, const py::array& w2,
                         const py::array& norms, double epsilon, py::array& d_x, py::array& d_w1, py::array& d_w2,
                         py::array& d_norms, int threads) {
  with_type("x", x, [&](auto type) {
    using T = decltype(type);
    const MapShape shape = training_shape(x);
    const int c = shape.channels;
    const auto block = block_training<T>(shape, w1, w2, norms, epsilon);
    const T* from = values<T>("grad", grad, full(shape));
    const typename BlockTraining<T>::Kept kept = {values<T>("x", x, full(shape)), values<T>("y1", y1, full(shape)),
                                                  values<T>("y2", y2, full(shape)), values<T>("out", out, full(shape)),
                                                  values<float>("statistics", statistics, {4, c})};
    T* to = writable<T>("d_x", d_x, full(shape));
    float* d_weights[] = {writable<float>("d_w1", d_w1, {c, 3, 3, c}), writable<float>("d_w2", d_w2, {c, 3, 3, c})};
    float* d_affine = writable<float>("d_norms", d_norms, {4, c});
    ThreadPool& pool = shared_pool(threads);
    py::gil_scoped_release release;
    block.backward(from, kept, to, d_weights[0], d_weights[1], d_affine, pool);
  });
}

uint64_t fingerprint_of(const std::vector<py::array>& arrays) {
  uint64_t result = 0;
  for (const py::array& array : arrays) {
    if (!(array.flags() & py::array::c_style)) throw std::invalid_argument("arrays: allowed: C-contiguous");
    for (py::ssize_t i = 0; i < array.ndim(); ++i) {
      const py::ssize_t extent = array.shape(i);
      result = fingerprint(&extent, sizeof extent, result);
    }
    result = fingerprint(array.data(), static_cast<size_t>(array.nbytes()), result);
  }
  return result;
}

}  // namespace

void register_ops(py::module_& m) {
  m.def("upsample_add", &bind_upsample_add, py::arg("low"), py::arg("skip"), py::arg("out"), py::arg("threads"));
  m.def("attention_gate", &bind_attention_gate, py::arg("logits"), py::arg("features"), py::arg("out"),
        py::arg("threads"));
  m.def("upsample_add_gate", &bind_upsample_add_gate, py::arg("low"), py::arg("skip"), py::arg("features"),
        py::arg("out"), py::arg("threads"));
  m.def("upsample_add_backward", &bind_upsample_add_backward, py::arg("grad"), py::arg("d_low"), py::arg("threads"));
  m.def("attention_gate_backward", &bind_attention_gate_backward, py::arg("grad"), py::arg("logits"),
        py::arg("features"), py::arg("d_logits"), py::arg("d_features"), py::arg("threads"));
  m.def("upsample_add_gate_backward", &bind_upsample_add_gate_backward, py::arg("grad"), py::arg("low"),
        py::arg("skip"), py::arg("features"), py::arg("d_low"), py::arg("d_skip"), py::arg("d_features"),
        py::arg("threads"));
  m.def("conv3x3", &bind_conv3x3, py::arg("x"), py::arg("weight"), py::arg("out"), py::arg("threads"),
        "x, out (B, T, D, C), weight (C, C, 3, 3) float32.");
  m.def("conv3x3_backward", &bind_conv3x3_backward, py::arg("grad"), py::arg("x"), py::arg("weight"), py::arg("d_x"),
        py::arg("d_weight"), py::arg("threads"), "d_weight (C, 3, 3, C), outputs first, float32.");
  m.def("block_training_forward", &bind_block_forward, py::arg("x"), py::arg("w1"), py::arg("w2"), py::arg("norms"),
        py::arg("epsilon"), py::arg("y1"), py::arg("y2"), py::arg("out"), py::arg("statistics"), py::arg("threads"),
        "Maps (B, T, D, C); norms (4, C): scale and shift of each; statistics (4, C): mean and variance of each.");
  m.def("block_training_backward", &bind_block_backward, py::arg("grad"), py::arg("x"), py::arg("y1"), py::arg("y2"),
        py::arg("out"), py::arg("statistics"), py::arg("w1"), py::arg("w2"), py::arg("norms"), py::arg("epsilon"),
        py::arg("d_x"), py::arg("d_w1"), py::arg("d_w2"), py::arg("d_norms"), py::arg("threads"),
        "d_w1, d_w2 (C, 3, 3, C), outputs first, d_norms as norms; float32.");
  bind_block<float>(m, "ResidualBlock");
  bind_block<Bf16>(m, "ResidualBlockBf16");
  py::class_<BiGru>(m, "BiGru", "A bidirectional GRU's packed weights; any number of threads may use one.")
      .def(py::init(&make_bigru), py::arg("weights"))
      .def("run", &run_bigru, py::arg("x"), py::arg("out"), py::arg("last"), py::arg("threads"),
           "x (B, T, I) -> out (B, T, 2H), last (2L, B, H).");
  m.def("gru_training_forward", &bind_gru_forward, py::arg("projected"), py::arg("weights"), py::arg("bias_new"),
        py::arg("states"), py::arg("gates"), py::arg("threads"),
        "One layer: projected (B, T, 2, 3H) -> states (B, T, 2H), gates (B, T, 2, 4, H).");
  m.def("gru_training_backward", &bind_gru_backward, py::arg("d_states"), py::arg("states"), py::arg("gates"),
        py::arg("weights"), py::arg("d_projected"), py::arg("d_new"), py::arg("threads"),
        "Gradients of the pre-activations, (B, T, 2, 3H), and of W_hn h + b_hn, (B, T, 2, H).");
  m.def("fingerprint", &fingerprint_of, py::arg("arrays"),
        "A number of the arrays' shapes and bytes: another one, beyond doubt of 2^-64, where any of them differs.");
}
