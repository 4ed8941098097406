#include "core/pointwise.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

#include "core/kernels/gate_backward.h"
#include "core/pack.h"
#include "core/typed_kernels.h"

namespace mtfa {

namespace {

constexpr int64_t kTaskValues = 1 << 15;  // what pays for handing out a task
constexpr int kPixel = 16;                // any layout is a row of pixels of the smallest size

float widen(float x) { return x; }
float widen(Bf16 x) {  // to_float, in a form that vectorises
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <class T>
TypedBackwardKernels<T> backward_kernels(Isa isa) {
  const GateBackwardKernels kernels = MTFA_SELECT(isa, gate_backward_kernels)();
  if constexpr (std::is_same_v<T, float>)
    return kernels.fp32;
  else
    return kernels.bf16;
}

// Calls rows(row of the half-size map, first and last + 1 of the one or two rows above it), in tasks of some rows.
template <class Rows>
void for_each_half_row(const MapShape& shape, ThreadPool& pool, Rows rows) {
  const int64_t per_map = (shape.rows + 1) / 2, all = shape.batch * per_map;
  const int64_t values = int64_t{2} * std::max(shape.width, 1) * shape.channels;
  const int64_t group = std::max<int64_t>(kTaskValues / values, 1);
  pool.run(static_cast<int>((all + group - 1) / group), [&](int task) {
    for (int64_t half = task * group; half < std::min(all, (task + 1) * group); ++half) {
      const int64_t map = half / per_map * shape.rows, row = half % per_map * 2;
      rows(half, map + row, map + std::min(row + 2, shape.rows));
    }
  });
}

}  // namespace

// The kernels' rows begin with a pixel of padding, which they never read here: a row without it begins one pixel
// before its data.

template <class T>
void upsample_add(const T* low, const T* skip, T* out, const MapShape& shape, const Kernels& kernels,
                  ThreadPool& pool) {
  const int64_t pixel = shape.channels, full = shape.width * pixel, half = (shape.width + 1) / 2 * pixel;
  for_each_half_row(shape, pool, [&](int64_t below, int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      typed_kernels<T>(kernels).upsample_add(skip + r * full - pixel, low + below * half - pixel,
                                             out + r * full - pixel, shape.width, shape.channels);
    }
  });
}

template <class T>
void attention_gate(const T* logits, const T* features, T* out, int64_t count, const Kernels& kernels,
                    ThreadPool& pool) {
  const auto gate = [&](const T* mask, const T* values, T* to, int64_t n) {
    typed_kernels<T>(kernels).gate(
        {mask - kPixel, nullptr, nullptr, nullptr, values - kPixel, to, static_cast<int>(n / kPixel), kPixel, 1});
  };
  const int64_t whole = count / kPixel * kPixel, rest = count - whole;
  pool.run(static_cast<int>((whole + kTaskValues - 1) / kTaskValues), [&](int task) {
    const int64_t first = task * kTaskValues;
    gate(logits + first, features + first, out + first, std::min(kTaskValues, whole - first));
  });
  if (rest == 0) return;
  T last[4][kPixel] = {};  // padding, logits, features, result
  std::copy_n(logits + whole, rest, last[1]);
  std::copy_n(features + whole, rest, last[2]);
  gate(last[1], last[2], last[3], kPixel);
  std::copy_n(last[3], rest, out + whole);
}

template <class T>
void upsample_add_gate(const T* low, const T* skip, const T* features, T* out, const MapShape& shape,
                       const Kernels& kernels, ThreadPool& pool) {
  const int64_t pixel = shape.channels, full = shape.width * pixel;
  const int half_width = (shape.width + 1) / 2, columns = round_up(shape.channels, kernels.panel);
  const int64_t half = half_width * pixel;
  // The kernel takes the low path as projected rows: floats, each pixel filled up to a panel.
  const bool as_is = std::is_same_v<T, float> && columns == shape.channels;
  for_each_half_row(shape, pool, [&](int64_t below, int64_t first, int64_t last) {
    thread_local std::vector<float> widened;
    const T* from = low + below * half;
    const float* projected = reinterpret_cast<const float*>(from);
    if (!as_is) {
      widened.resize(static_cast<size_t>(half_width) * columns);
      for (int x = 0; x < half_width; ++x)
        std::transform(from + x * pixel, from + (x + 1) * pixel, widened.data() + int64_t{x} * columns,
                       [](T value) { return widen(value); });
      projected = widened.data();
    }
    for (int64_t r = first; r < last; ++r) {
      typed_kernels<T>(kernels).gate({skip + r * full - pixel, nullptr, nullptr, projected, features + r * full - pixel,
                                      out + r * full, shape.width, shape.channels, 1});
    }
  });
}

template <class T>
void upsample_add_backward(const T* grad, T* d_low, const MapShape& shape, Isa isa, ThreadPool& pool) {
  const auto upsample = backward_kernels<T>(isa).upsample;
  const int64_t full = int64_t{shape.width} * shape.channels, half = (int64_t{shape.width} + 1) / 2 * shape.channels;
  for_each_half_row(shape, pool, [&](int64_t below, int64_t first, int64_t last) {
    const T* const rows[] = {grad + first * full, last - first == 2 ? grad + (first + 1) * full : nullptr};
    upsample(rows, d_low + below * half, shape.width, shape.channels);
  });
}

template <class T>
void attention_gate_backward(const AttentionGradients<T>& maps, int64_t count, Isa isa, ThreadPool& pool) {
  const auto gate = backward_kernels<T>(isa).attention_gate;
  const int64_t whole = count / kPixel * kPixel, rest = count - whole;
  pool.run(static_cast<int>((whole + kTaskValues - 1) / kTaskValues), [&](int task) {
    const int64_t i = task * kTaskValues;
    gate(maps.grad + i, maps.logits + i, maps.features + i, maps.d_logits + i, maps.d_features + i,
         std::min(kTaskValues, whole - i));
  });
  if (rest == 0) return;
  T last[5][kPixel] = {};  // as the arguments
  std::copy_n(maps.grad + whole, rest, last[0]);
  std::copy_n(maps.logits + whole, rest, last[1]);
  std::copy_n(maps.features + whole, rest, last[2]);
  gate(last[0], last[1], last[2], last[3], last[4], kPixel);
  std::copy_n(last[3], rest, maps.d_logits + whole);
  std::copy_n(last[4], rest, maps.d_features + whole);
}

template <class T>
void upsample_add_gate_backward(const GateGradients<T>& maps, const MapShape& shape, Isa isa, ThreadPool& pool) {
  const auto gate = backward_kernels<T>(isa).upsample_add_gate;
  const int64_t full = int64_t{shape.width} * shape.channels, half = (int64_t{shape.width} + 1) / 2 * shape.channels;
  for_each_half_row(shape, pool, [&](int64_t below, int64_t first, int64_t last) {
    GateBackwardRows<T> rows = {};
    rows.low = maps.low + below * half, rows.d_low = maps.d_low + below * half;
    rows.width = shape.width, rows.channels = shape.channels;
    for (int64_t r = first; r < last; ++r) {
      const int64_t at = r * full, i = r - first;
      rows.grad[i] = maps.grad + at, rows.skip[i] = maps.skip + at, rows.features[i] = maps.features + at;
      rows.d_skip[i] = maps.d_skip + at, rows.d_features[i] = maps.d_features + at;
    }
    gate(rows);
  });
}

#define MTFA_POINTWISE(T)                                                                                          \
  template void upsample_add(const T*, const T*, T*, const MapShape&, const Kernels&, ThreadPool&);                \
  template void attention_gate(const T*, const T*, T*, int64_t, const Kernels&, ThreadPool&);                      \
  template void upsample_add_gate(const T*, const T*, const T*, T*, const MapShape&, const Kernels&, ThreadPool&); \
  template void upsample_add_backward(const T*, T*, const MapShape&, Isa, ThreadPool&);                            \
  template void attention_gate_backward(const AttentionGradients<T>&, int64_t, Isa, ThreadPool&);                  \
  template void upsample_add_gate_backward(const GateGradients<T>&, const MapShape&, Isa, ThreadPool&);
MTFA_POINTWISE(float)
MTFA_POINTWISE(Bf16)
#undef MTFA_POINTWISE

}  // namespace mtfa
