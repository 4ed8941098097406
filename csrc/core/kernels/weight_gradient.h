// The 3x3 convolution's weight gradient by Winograd: the transpose of winograd.h's Y = A^T [(G g G^T) . (B^T d B)] A in
// g is G^T [sum over blocks of (B^T d B) . (A dY A^T)] G, 3 products per output and pair of channels instead of 9.
//
// In float for every type of map: the sums over blocks run over the whole map, and bf16 pairs would have to be brought
// together from two blocks.
#pragma once

#include "core/kernels/block_training.h"
#include "core/kernels/winograd.h"

namespace mtfa {
namespace MTFA_ISA_NAMESPACE {

// A y of one dimension, the transpose of winograd.h's output().
MTFA_INLINE void spread2(const Vec* y, Vec* m) { m[0] = y[0], m[1] = y[0] + y[1], m[2] = y[0] - y[1], m[3] = y[1]; }

MTFA_INLINE void spread4(const Vec* y, Vec* m) {
  constexpr float a = kPointA, b = kPointB;
  const Vec even_a = y[0] + (a * a) * y[2], odd_a = a * y[1] + (a * a * a) * y[3];
  const Vec even_b = y[0] + (b * b) * y[2], odd_b = b * y[1] + (b * b * b) * y[3];
  m[0] = y[0];
  m[1] = even_a + odd_a, m[2] = even_a - odd_a;
  m[3] = even_b + odd_b, m[4] = even_b - odd_b;
  m[5] = y[3];
}

// A dY A^T for one block column after another.
template <class T>
MTFA_INLINE void transform_gradient(const T* const rows[2], int blocks, int channels, float* out,
                                    ptrdiff_t position_stride) {
  constexpr int step = Outputs4::outputs, window = Outputs4::window;
  for (int j = 0; j < blocks; ++j) {
    for (int c = 0; c < channels; c += kWidth) {
      Vec columns[4][step];
#pragma GCC unroll 4
      for (int pixel = 0; pixel < step; ++pixel) {
        const ptrdiff_t at = static_cast<ptrdiff_t>(step * j + pixel) * channels + c;
        const Vec y[2] = {load(rows[0] + at), load(rows[1] + at)};
        Vec m[4];
        spread2(y, m);
        for (int i = 0; i < 4; ++i) columns[i][pixel] = m[i];
      }
      float* to = out + static_cast<ptrdiff_t>(j) * channels + c;
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        Vec m[window];
        spread4(columns[i], m);
#pragma GCC unroll 6
        for (int k = 0; k < window; ++k) store(to + (window * i + k) * position_stride, m[k]);
      }
    }
  }
}

// c (kRows, kVectors vectors) += a^T b, a (depth, kRows) and b (depth, kVectors vectors) with the same stride.
template <int kRows, int kVectors>
MTFA_INLINE void outer_tile(const float* a, const float* b, ptrdiff_t stride, int depth, float* c, ptrdiff_t c_stride) {
  Vec sum[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) sum[r][v] = load(c + r * c_stride + v * kWidth);
  }
  for (int k = 0; k < depth; ++k, a += stride, b += stride) {
    Vec row[kVectors];
    for (int v = 0; v < kVectors; ++v) row[v] = load(b + v * kWidth);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Vec x = splat(a[r]);
      for (int v = 0; v < kVectors; ++v) sum[r][v] += x * row[v];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) store(c + r * c_stride + v * kWidth, sum[r][v]);
  }
}

template <int kVectors, int kRows = kTileRows>
MTFA_INLINE void outer_rows(int rows, const float* a, const float* b, ptrdiff_t stride, int depth, float* c) {
  if constexpr (kRows > 0) {
    if (rows == kRows)
      outer_tile<kRows, kVectors>(a, b, stride, depth, c, stride);
    else
      outer_rows<kVectors, kRows - 1>(rows, a, b, stride, depth, c);
  }
}

// c (channels, channels) += a^T b, in tiles as even as can be.
inline void outer(const float* a, const float* b, int channels, int depth, float* c) {
  for (int n = 0; n < channels; n += kPanel) {
    int tiles = (channels + kTileRows - 1) / kTileRows;
    for (int m = 0; m < channels; --tiles) {
      const int rows = (channels - m + tiles - 1) / tiles;
      float* to = c + static_cast<ptrdiff_t>(m) * channels + n;
      if (channels - n >= kPanel)
        outer_rows<kPanelVectors>(rows, a + m, b + n, channels, depth, to);
      else
        outer_rows<1>(rows, a + m, b + n, channels, depth, to);
      m += rows;
    }
  }
}

template <class T>
void weight_gradient(const WeightGradientRows<T>& args) {
  constexpr int positions = Outputs2::window * Outputs4::window, step = Outputs4::outputs;
  // The sums of one position pass through the first-level cache once for so many blocks.
  constexpr int most = 64, group = 16;
  const int channels = args.channels;
  const ptrdiff_t stride = static_cast<ptrdiff_t>(most) * channels + 64;  // as in winograd_group
  float* const inputs = static_cast<float*>(scratch(2 * positions * stride * sizeof(float)));
  float* const gradients = inputs + positions * stride;
  int filled = 0;
  const auto multiply = [&] {
    for (int p = 0; p < positions; ++p) {
      outer(inputs + p * stride, gradients + p * stride, channels, filled,
            args.sums + static_cast<ptrdiff_t>(p) * channels * channels);
    }
    filled = 0;
  };
  const int all = (args.width + step - 1) / step;
  for (int pair = 0; pair < args.pairs; ++pair) {
    for (int first = 0; first < all; first += group) {
      const int blocks = all - first < group ? all - first : group;
      if (filled + blocks > most) multiply();
      const ptrdiff_t at = static_cast<ptrdiff_t>(first) * step * channels,
                      to = static_cast<ptrdiff_t>(filled) * channels;
      const T* const* in = args.in + 4 * pair;
      const T* const* grad = args.grad + 2 * pair;
      const T* const rows[] = {in[0] + at, in[1] + at, in[2] + at, in[3] + at};
      const T* const results[] = {grad[0] + at + channels, grad[1] + at + channels};
      transform_input<Outputs4>(rows, blocks, channels, inputs + to, stride);
      transform_gradient(results, blocks, channels, gradients + to, stride);
      filled += blocks;
    }
  }
  multiply();
}

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa
