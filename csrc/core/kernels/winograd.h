// 3x3 convolution by Winograd's F(2x2, 3x3): each 2x2 block of outputs takes 16 products per pair of
// channels instead of 36. Y = A^T [(G g G^T) . (B^T d B)] A, with the products over channels as 16 matrix
// products. The sums over channels are nine times shorter than a direct convolution's, which pays for the
// transforms' rounding: the error stays that of a direct convolution (docs/numerics.md).
//
// One call makes one pair of output rows. The transformed input of all its blocks, the products and the
// weights (16 x C x C) fit the second-level cache together.
#pragma once

#include "core/kernels/gemm.h"

namespace mtfa {
namespace MTFA_ISA_NAMESPACE {

constexpr int kPositions = 16;

// B^T d B for one block column after another: the vertical half is shared by neighbouring blocks.
template <class T>
MTFA_INLINE void transform_input(const T* const rows[4], int blocks, int channels, T* out, ptrdiff_t position_stride) {
  for (int c = 0; c < channels; c += kWidth) {
    Vec column[4][4];  // [pixel of the block][vertical position]
    auto vertical = [&](int pixel, Vec* u) {
      const ptrdiff_t at = static_cast<ptrdiff_t>(pixel) * channels + c;
      const Vec a = load(rows[0] + at), b = load(rows[1] + at), d = load(rows[2] + at), e = load(rows[3] + at);
      u[0] = a - d, u[1] = b + d, u[2] = d - b, u[3] = b - e;
    };
    vertical(0, column[0]);
    vertical(1, column[1]);
    for (int j = 0; j < blocks; ++j) {
      vertical(2 * j + 2, column[2]);
      vertical(2 * j + 3, column[3]);
      T* to = out + static_cast<ptrdiff_t>(j) * channels + c;
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        store(to + (4 * i + 0) * position_stride, column[0][i] - column[2][i]);
        store(to + (4 * i + 1) * position_stride, column[1][i] + column[2][i]);
        store(to + (4 * i + 2) * position_stride, column[2][i] - column[1][i]);
        store(to + (4 * i + 3) * position_stride, column[1][i] - column[3][i]);
        column[0][i] = column[2][i];
        column[1][i] = column[3][i];
      }
    }
  }
}

// A^T m A, bias, residual, ReLU, and the blocks' pixels into the output rows.
template <class T>
MTFA_INLINE void transform_output(const ConvRows<T>& args, const float* products, ptrdiff_t position_stride, int blocks,
                                  int columns) {
  const int channels = args.channels;
  for (int j = 0; j < blocks; ++j) {
    for (int c = 0; c < channels; c += kWidth) {
      const float* from = products + static_cast<ptrdiff_t>(j) * columns + c;
      Vec low[4], high[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const Vec m0 = load(from + i * position_stride), m1 = load(from + (4 + i) * position_stride);
        const Vec m2 = load(from + (8 + i) * position_stride), m3 = load(from + (12 + i) * position_stride);
        low[i] = m0 + m1 + m2;
        high[i] = m1 - m2 - m3;
      }
      const Vec bias = load(args.bias + c);
      const Vec y[2][2] = {{low[0] + low[1] + low[2] + bias, low[1] - low[2] - low[3] + bias},
                           {high[0] + high[1] + high[2] + bias, high[1] - high[2] - high[3] + bias}};
#pragma GCC unroll 2
      for (int row = 0; row < 2; ++row) {
        if (!args.out[row]) continue;
#pragma GCC unroll 2
        for (int pixel = 0; pixel < 2; ++pixel) {
          if (2 * j + pixel >= args.width) continue;
          const ptrdiff_t at = static_cast<ptrdiff_t>(2 * j + pixel + 1) * channels + c;
          Vec value = y[row][pixel];
          if (args.residual[row]) value += load(args.residual[row] + at);
          store(args.out[row] + at, args.relu ? relu(value) : value);
        }
      }
    }
  }
}

template <class T>
void conv3x3_winograd(const ConvRows<T>& args) {
  const int channels = args.channels, blocks = (args.width + 1) / 2;
  const int columns = (channels + kPanel - 1) / kPanel * kPanel;
  // The four lines of padding put the 16 positions of one block into different sets of the first-level cache.
  const ptrdiff_t pad = 64;
  const ptrdiff_t in_stride = static_cast<ptrdiff_t>(blocks) * channels + pad;
  const ptrdiff_t out_stride = static_cast<ptrdiff_t>(blocks) * columns + pad;
  char* memory = static_cast<char*>(scratch(kPositions * (in_stride * sizeof(T) + out_stride * sizeof(float)) + 64));
  T* transformed = reinterpret_cast<T*>(memory);
  float* products = reinterpret_cast<float*>(memory + (kPositions * in_stride * sizeof(T) + 63) / 64 * 64);

  transform_input(args.in, blocks, channels, transformed, in_stride);
  const T* weights = static_cast<const T*>(args.weights);
  for (int p = 0; p < kPositions; ++p) {
    for (int n = 0; n < columns; n += kPanel) {
      gemm_panel<T>(transformed + p * in_stride, channels, weights, blocks, channels, nullptr, false,
                    products + p * out_stride + n, columns);
      weights += static_cast<ptrdiff_t>(channels) * kPanel;
    }
  }
  transform_output(args, products, out_stride, blocks, columns);
}

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa
