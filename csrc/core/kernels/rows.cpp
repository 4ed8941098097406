// The passes over rows that are not convolutions 64 -> 64: stem, pooling, upsample-add, gate.
#include "core/kernels/rows.h"

#include <type_traits>

#include "core/kernels/dense_tiles.h"
#include "core/kernels/gemm.h"

namespace mtfa {
namespace MTFA_ISA_NAMESPACE {

template <class T>
void stem_row(const StemRow<T>& args) {
  constexpr int kPixels = 4;
  for (int c = 0; c < args.channels; c += kWidth) {
    Vec weights[9];
    for (int tap = 0; tap < 9; ++tap) weights[tap] = load(args.weights + tap * args.channels + c);
    const Vec bias = load(args.bias + c);
    for (int x = 0; x < args.width; x += kPixels) {
      for (int p = x; p < x + kPixels && p < args.width; ++p) {
        Vec sum = bias;
        for (int tap = 0; tap < 9; ++tap) sum += splat(args.in[tap / 3][p + tap % 3]) * weights[tap];
        store(args.out + static_cast<ptrdiff_t>(p + 1) * args.channels + c, relu(sum));
      }
    }
  }
}

template <class T>
void pool_rows(const T* a, const T* b, T* out, int width, int channels) {
  for (int x = 0; x < width / 2; ++x) {
    for (int c = 0; c < channels; c += kWidth) {
      const ptrdiff_t left = static_cast<ptrdiff_t>(2 * x + 1) * channels + c, right = left + channels;
      const Vec top = max(load(a + left), load(a + right)), bottom = max(load(b + left), load(b + right));
      store(out + static_cast<ptrdiff_t>(x + 1) * channels + c, max(top, bottom));
    }
  }
}

template <class T>
void upsample_add_row(const T* skip, const T* low, T* out, int width, int channels) {
  for (int x = 0; x < width; ++x) {
    for (int c = 0; c < channels; c += kWidth) {
      const ptrdiff_t at = static_cast<ptrdiff_t>(x + 1) * channels + c;
      const ptrdiff_t below = static_cast<ptrdiff_t>(x / 2 + 1) * channels + c;
      store(out + at, load(skip + at) + load(low + below));
    }
  }
}

template <class T>
void dense_rows(const Dense<T>& args) {
#if defined(__AMX_BF16__) || defined(MTFA_EMULATE_AMX)
  if constexpr (std::is_same_v<T, Bf16>) {
    if (fits_tiles(args)) return dense_tiles(args);
  }
#endif
  for (int n = 0; n < args.columns; n += kPanel) {
    const T* panel = static_cast<const T*>(args.weights) + static_cast<ptrdiff_t>(n) * args.depth;
    gemm_panel<T, true>(args.in, args.in_stride, panel, args.rows, args.depth, args.bias ? args.bias + n : nullptr,
                        args.relu, args.out + n, args.out_stride, args.chain);
  }
}

template <class T>
void gate_row(const GateRow<T>& args) {
  const int channels = args.channels, columns = (channels + kPanel - 1) / kPanel * kPanel;
  float* logits = nullptr;
  if (args.skip && args.weights) {
    logits = static_cast<float*>(scratch(sizeof(float) * args.width * columns));
    dense_rows<T>({args.skip + channels, channels, args.weights, args.bias, logits, columns, args.width, channels,
                   columns, false});
  }
  for (int group = 0; group < args.width / args.pooling; ++group) {
    for (int c = 0; c < channels; c += kWidth) {
      Vec best{};
      for (int x = group * args.pooling; x < (group + 1) * args.pooling; ++x) {
        const ptrdiff_t at = static_cast<ptrdiff_t>(x + 1) * channels + c;
        Vec value = load(args.features + at);
        if (args.skip) {
          Vec logit = logits ? load(logits + static_cast<ptrdiff_t>(x) * columns + c) : load(args.skip + at);
          if (args.low) logit += load(args.low + static_cast<ptrdiff_t>(x / 2) * columns + c);
          const Vec mask = sigmoid(logit);
          if (args.masks) store(args.masks + static_cast<ptrdiff_t>(x) * channels + c, mask);
          value *= 1.0f + mask;
        }
        best = x == group * args.pooling ? value : max(best, value);
      }
      store(args.out + static_cast<ptrdiff_t>(group) * channels + c, best);
    }
  }
}

#define MTFA_ROWS(T)                                                   \
  template void stem_row<T>(const StemRow<T>&);                        \
  template void pool_rows<T>(const T*, const T*, T*, int, int);        \
  template void upsample_add_row<T>(const T*, const T*, T*, int, int); \
  template void dense_rows<T>(const Dense<T>&);                        \
  template void gate_row<T>(const GateRow<T>&);
MTFA_ROWS(float)
#ifdef MTFA_HAS_BF16
MTFA_ROWS(Bf16)
#endif

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa
