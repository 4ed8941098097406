#include "core/kernels/gate_backward.h"

#include <algorithm>

#include "core/kernels/simd.h"

namespace mtfa {
namespace MTFA_ISA_NAMESPACE {

namespace {

template <class T>
void upsample_add_gate(const GateBackwardRows<T>& rows) {
  const int channels = rows.channels, count = rows.grad[1] ? 2 : 1;
  for (int below = 0; below < (rows.width + 1) / 2; ++below) {
    for (int c = 0; c < channels; c += kWidth) {
      const Vec low = load(rows.low + static_cast<ptrdiff_t>(below) * channels + c);
      Vec sum = {};
      for (int row = 0; row < count; ++row) {
        for (int x = 2 * below; x < std::min(2 * below + 2, rows.width); ++x) {
          const ptrdiff_t at = static_cast<ptrdiff_t>(x) * channels + c;
          const Vec grad = load(rows.grad[row] + at), mask = sigmoid(load(rows.skip[row] + at) + low);
          const Vec d_skip = grad * load(rows.features[row] + at) * mask * (1.0f - mask);
          store(rows.d_features[row] + at, grad + grad * mask);
          store(rows.d_skip[row] + at, d_skip);
          sum += d_skip;
        }
      }
      store(rows.d_low + static_cast<ptrdiff_t>(below) * channels + c, sum);
    }
  }
}

template <class T>
void attention_gate(const T* grad, const T* logits, const T* features, T* d_logits, T* d_features, int64_t count) {
  for (int64_t i = 0; i < count; i += kWidth) {
    const Vec g = load(grad + i), mask = sigmoid(load(logits + i));
    store(d_logits + i, g * load(features + i) * mask * (1.0f - mask));
    store(d_features + i, g + g * mask);
  }
}

template <class T>
void upsample(const T* const* grad, T* d_low, int width, int channels) {
  const int count = grad[1] ? 2 : 1;
  for (int below = 0; below < (width + 1) / 2; ++below) {
    for (int c = 0; c < channels; c += kWidth) {
      Vec sum = {};
      for (int row = 0; row < count; ++row) {
        for (int x = 2 * below; x < std::min(2 * below + 2, width); ++x)
          sum += load(grad[row] + static_cast<ptrdiff_t>(x) * channels + c);
      }
      store(d_low + static_cast<ptrdiff_t>(below) * channels + c, sum);
    }
  }
}

template <class T>
constexpr TypedBackwardKernels<T> kBackward = {upsample_add_gate<T>, attention_gate<T>, upsample<T>};

}  // namespace

GateBackwardKernels gate_backward_kernels() {
#ifdef MTFA_HAS_BF16
  return {kBackward<float>, kBackward<Bf16>};
#else
  return {kBackward<float>, {}};
#endif
}

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa
