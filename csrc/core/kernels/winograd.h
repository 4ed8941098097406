// 3x3 convolution by Winograd: blocks of 2 rows x 2 or 4 columns of outputs take 4 or 3 products per output and pair of
// channels instead of 9. Y = A^T [(G g G^T) . (B^T d B)] A, with the products over channels as 16 or 24 matrix
// products. The sums over channels are nine times shorter than a direct convolution's, which pays for part of the
// transforms' rounding (docs/performance.md).
//
// One call makes one pair of output rows, a group of blocks at a time. With 64 channels the transformed input of a
// group, its products and the weights (24 x C x C) take 0.35 (bf16) to 0.6 MB (fp32) of a second-level cache of 1 MB;
// the rest is for the rows, or lost to whoever else runs on the core.
#pragma once

#include "core/kernels/gemm.h"
#include "core/kernels/winograd_points.h"

namespace mtfa {
namespace MTFA_ISA_NAMESPACE {

// B^T and A^T of one dimension, for the points of winograd_points.h: a row of B^T is the polynomial that is zero at all
// points but its own, a column of A^T the powers of its point.
struct Outputs2 {
  static constexpr int outputs = 2, window = outputs + 2;
  MTFA_INLINE static void input(const Vec* d, Vec* v) {
    v[0] = d[2] - d[0], v[1] = d[2] + d[1], v[2] = d[2] - d[1], v[3] = d[3] - d[1];
  }
  MTFA_INLINE static void output(const Vec* m, Vec* y) { y[0] = m[0] + m[1] + m[2], y[1] = m[1] - m[2] + m[3]; }
};

struct Outputs4 {
  static constexpr int outputs = 4, window = outputs + 2;
  static constexpr float a = kPointA, b = kPointB, a2 = a * a, b2 = b * b;
  MTFA_INLINE static void input(const Vec* d, Vec* v) {
    const Vec even_a = d[4] - b2 * d[2], odd_a = d[3] - b2 * d[1], even_b = d[4] - a2 * d[2], odd_b = d[3] - a2 * d[1];
    v[0] = d[4] - (a2 + b2) * d[2] + (a2 * b2) * d[0];
    v[1] = even_a + a * odd_a, v[2] = even_a - a * odd_a;
    v[3] = even_b + b * odd_b, v[4] = even_b - b * odd_b;
    v[5] = d[5] - (a2 + b2) * d[3] + (a2 * b2) * d[1];
  }
  MTFA_INLINE static void output(const Vec* m, Vec* y) {
    const Vec even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
    y[0] = m[0] + even_a + even_b;
    y[1] = a * odd_a + b * odd_b;
    y[2] = a2 * even_a + b2 * even_b;
    y[3] = (a2 * a) * odd_a + (b2 * b) * odd_b + m[5];
  }
};

// B^T d B for one block column after another: the vertical half is shared by neighbouring blocks.
template <class Columns, class T>
MTFA_INLINE void transform_input(const T* const rows[4], int blocks, int channels, T* out, ptrdiff_t position_stride) {
  constexpr int window = Columns::window, step = Columns::outputs;
  for (int c = 0; c < channels; c += kWidth) {
    Vec column[4][window];  // [vertical position][pixel of the block]
    auto vertical = [&](int pixel, int place) {
      const ptrdiff_t at = static_cast<ptrdiff_t>(pixel) * channels + c;
      const Vec d[4] = {load(rows[0] + at), load(rows[1] + at), load(rows[2] + at), load(rows[3] + at)};
      Vec v[4];
      Outputs2::input(d, v);
      for (int i = 0; i < 4; ++i) column[i][place] = v[i];
    };
    vertical(0, 0);
    vertical(1, 1);
    for (int j = 0; j < blocks; ++j) {
#pragma GCC unroll 4
      for (int pixel = 2; pixel < window; ++pixel) vertical(step * j + pixel, pixel);
      T* to = out + static_cast<ptrdiff_t>(j) * channels + c;
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        Vec v[window];
        Columns::input(column[i], v);
#pragma GCC unroll 6
        for (int k = 0; k < window; ++k) store(to + (window * i + k) * position_stride, v[k]);
        column[i][0] = column[i][step];
        column[i][1] = column[i][step + 1];
      }
    }
  }
}

// A^T m A, bias, residual, ReLU, and the blocks' pixels into the output rows.
template <class Columns, class T>
MTFA_INLINE void transform_output(const ConvRows<T>& args, const float* products, ptrdiff_t position_stride, int blocks,
                                  int columns) {
  constexpr int window = Columns::window, step = Columns::outputs;
  const int channels = args.channels;
  for (int j = 0; j < blocks; ++j) {
    for (int c = 0; c < channels; c += kWidth) {
      const float* from = products + static_cast<ptrdiff_t>(j) * columns + c;
      Vec sums[2][window];
#pragma GCC unroll 6
      for (int k = 0; k < window; ++k) {
        Vec m[4], y[2];
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) m[i] = load(from + (window * i + k) * position_stride);
        Outputs2::output(m, y);
        sums[0][k] = y[0], sums[1][k] = y[1];
      }
      const Vec bias = load(args.bias + c);
#pragma GCC unroll 2
      for (int row = 0; row < 2; ++row) {
        if (!args.out[row]) continue;
        Vec y[step];
        Columns::output(sums[row], y);
#pragma GCC unroll 4
        for (int pixel = 0; pixel < step; ++pixel) {
          if (step * j + pixel >= args.width) continue;
          const ptrdiff_t at = static_cast<ptrdiff_t>(step * j + pixel + 1) * channels + c;
          Vec value = y[pixel] + bias;
          if (args.residual[row]) value += load(args.residual[row] + at);
          store(args.out[row] + at, args.relu ? relu(value) : value);
        }
      }
    }
  }
}

template <class Columns, class T>
void winograd_group(const ConvRows<T>& args) {
  constexpr int positions = Outputs2::window * Columns::window;
  const int channels = args.channels, blocks = (args.width + Columns::outputs - 1) / Columns::outputs;
  const int columns = (channels + kPanel - 1) / kPanel * kPanel;
  // The four lines of padding put the positions of one block into different sets of the first-level cache.
  const ptrdiff_t pad = 64;
  const ptrdiff_t in_stride = static_cast<ptrdiff_t>(blocks) * channels + pad;
  const ptrdiff_t out_stride = static_cast<ptrdiff_t>(blocks) * columns + pad;
  char* memory = static_cast<char*>(scratch(positions * (in_stride * sizeof(T) + out_stride * sizeof(float)) + 64));
  T* transformed = reinterpret_cast<T*>(memory);
  float* products = reinterpret_cast<float*>(memory + (positions * in_stride * sizeof(T) + 63) / 64 * 64);

  transform_input<Columns>(args.in, blocks, channels, transformed, in_stride);
  const T* weights = static_cast<const T*>(args.weights);
  for (int p = 0; p < positions; ++p) {
    for (int n = 0; n < columns; n += kPanel) {
      gemm_panel<T>(transformed + p * in_stride, channels, weights, blocks, channels, nullptr, false,
                    products + p * out_stride + n, columns);
      weights += static_cast<ptrdiff_t>(channels) * kPanel;
    }
  }
  transform_output<Columns>(args, products, out_stride, blocks, columns);
}

template <class Columns, class T>
void winograd_in_blocks(const ConvRows<T>& args) {
  constexpr int group = 16 * Columns::outputs;  // pixels
  for (int x = 0; x < args.width; x += group) {
    ConvRows<T> part = args;
    const ptrdiff_t at = static_cast<ptrdiff_t>(x) * args.channels;
    for (const T*& row : part.in) row += at;
    for (const T*& row : part.residual) row += row ? at : 0;
    for (T*& row : part.out) row += row ? at : 0;
    part.width = args.width - x < group ? args.width - x : group;
    winograd_group<Columns>(part);
  }
}

template <class T>
void winograd(const ConvRows<T>& args) {
  if (args.blocks == ConvBlocks::rows2_columns4)
    winograd_in_blocks<Outputs4>(args);
  else
    winograd_in_blocks<Outputs2>(args);
}

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa
