#include "core/kernels/gate_backward.h"

#include <algorithm>

#include "core/kernels/simd.h"

namespace mtfa {
namespace MTFA_ISA_NAMESPACE {

namespace {

template <class T>
void gate_backward(const GateBackwardRows<T>& rows) {
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

}  // namespace

GateBackwardKernels gate_backward_kernels() {
#ifdef __AVX512BF16__
  return {gate_backward<float>, gate_backward<Bf16>};
#else
  return {gate_backward<float>, nullptr};
#endif
}

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa
