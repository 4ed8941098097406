// The ops of mtfa_fast/backends/cpu over NumPy views of tensors. bfloat16 comes as int16, its bits.
#include <pybind11/stl.h>

#include <array>
#include <memory>

#include "bind_arrays.h"
#include "core/bigru.h"
#include "core/fingerprint.h"
#include "core/pack.h"
#include "core/residual_block.h"

namespace {

using Floats = py::array_t<float, py::array::c_style | py::array::forcecast>;

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
  bind_block<float>(m, "ResidualBlock");
  bind_block<Bf16>(m, "ResidualBlockBf16");
  py::class_<BiGru>(m, "BiGru", "A bidirectional GRU's packed weights; any number of threads may use one.")
      .def(py::init(&make_bigru), py::arg("weights"))
      .def("run", &run_bigru, py::arg("x"), py::arg("out"), py::arg("last"), py::arg("threads"),
           "x (B, T, I) -> out (B, T, 2H), last (2L, B, H).");
  m.def("fingerprint", &fingerprint_of, py::arg("arrays"),
        "A number of the arrays' shapes and bytes: another one, beyond doubt of 2^-64, where any of them differs.");
}
