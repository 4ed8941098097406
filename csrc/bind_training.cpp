// Forward and back through what trains on the core: convolutions, residual blocks, the GRU's recurrence.
#include "bind_arrays.h"
#include "core/block_training.h"
#include "core/gru_training.h"

namespace {

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

}  // namespace

void register_training(py::module_& m) {
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
  m.def("gru_training_forward", &bind_gru_forward, py::arg("projected"), py::arg("weights"), py::arg("bias_new"),
        py::arg("states"), py::arg("gates"), py::arg("threads"),
        "One layer: projected (B, T, 2, 3H) -> states (B, T, 2H), gates (B, T, 2, 4, H).");
  m.def("gru_training_backward", &bind_gru_backward, py::arg("d_states"), py::arg("states"), py::arg("gates"),
        py::arg("weights"), py::arg("d_projected"), py::arg("d_new"), py::arg("threads"),
        "Gradients of the pre-activations, (B, T, 2, 3H), and of W_hn h + b_hn, (B, T, 2, H).");
}
