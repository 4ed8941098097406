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

// A y in mel, the transpose of Outputs4::output().
MTFA_INLINE void spread4(const Vec* y, Vec* m) {
  constexpr float a = kPointA, b = kPointB;
  const Vec even_a = y[0] + (a * a) * y[2], odd_a = a * y[1] + (a * a * a) * y[3];
  const Vec even_b = y[0] + (b * b) * y[2], odd_b = b * y[1] + (b * b * b) * y[3];
  m[0] = y[0];
  m[1] = even_a + odd_a, m[2] = even_a - odd_a;
  m[3] = even_b + odd_b, m[4] = even_b - odd_b;
  m[5] = y[3];
}

// One of the four rows of B^T d in time (Outputs2::input()) and of A dY (the transpose of its output()).
template <int kRow, class T>
MTFA_INLINE Vec input_in_time(const T* const* rows, ptrdiff_t at) {
  if constexpr (kRow == 1) return load(rows[2] + at) + load(rows[1] + at);
  constexpr int from[] = {2, 2, 2, 3}, less[] = {0, 1, 1, 1};
  return load(rows[from[kRow]] + at) - load(rows[less[kRow]] + at);
}

template <int kRow, class T>
MTFA_INLINE Vec gradient_in_time(const T* const* rows, ptrdiff_t at) {
  if constexpr (kRow == 0) return load(rows[0] + at);
  if constexpr (kRow == 3) return load(rows[1] + at);
  const Vec first = load(rows[0] + at), second = load(rows[1] + at);
  return kRow == 1 ? first + second : first - second;
}

// One row in time of B^T d B and of A dY A^T, six positions each, for one block column after another.
template <int kRow, class T>
MTFA_INLINE void transform_row(const T* const* in, const T* const* grad, int blocks, int channels, float* inputs,
                               float* gradients, ptrdiff_t stride) {
  constexpr int window = Outputs4::window, step = Outputs4::outputs;
  for (int c = 0; c < channels; c += kWidth) {
    Vec pixels[window];
    pixels[0] = input_in_time<kRow>(in, c), pixels[1] = input_in_time<kRow>(in, channels + c);
    for (int j = 0; j < blocks; ++j) {
      const ptrdiff_t at = static_cast<ptrdiff_t>(step * j) * channels + c,
                      to = static_cast<ptrdiff_t>(j) * channels + c;
      Vec positions[window], results[step];
#pragma GCC unroll 4
      for (int pixel = 2; pixel < window; ++pixel) pixels[pixel] = input_in_time<kRow>(in, at + pixel * channels);
      Outputs4::input(pixels, positions);
#pragma GCC unroll 6
      for (int k = 0; k < window; ++k) store(inputs + to + k * stride, positions[k]);
      pixels[0] = pixels[step], pixels[1] = pixels[step + 1];
#pragma GCC unroll 4
      for (int pixel = 0; pixel < step; ++pixel) results[pixel] = gradient_in_time<kRow>(grad, at + pixel * channels);
      spread4(results, positions);
#pragma GCC unroll 6
      for (int k = 0; k < window; ++k) store(gradients + to + k * stride, positions[k]);
    }
  }
}

// c (kRows, kVectors vectors) += a^T b, a (depth, kRows) and b (depth, kVectors vectors) with the same stride. The sum
// over depth is one of its own: rounding grows with the partial sums.
template <int kRows, int kVectors>
MTFA_INLINE void outer_tile(const float* a, const float* b, ptrdiff_t stride, int depth, float* c, ptrdiff_t c_stride) {
  Vec sum[kRows][kVectors] = {};
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
    for (int v = 0; v < kVectors; ++v) {
      float* const to = c + r * c_stride + v * kWidth;
      store(to, load(to) + sum[r][v]);
    }
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

// The pieces of rows whose blocks are multiplied together, as many as their pixels allow.
template <class T>
struct BlockPieces {
  static constexpr int most = 32;  // blocks
  int count = 0, blocks = 0, of[most];
  const T *in[most][4], *grad[most][2];
};

// The products of one row of positions in time.
template <int kRow, class T>
MTFA_INLINE void multiply_row(const BlockPieces<T>& pieces, int channels, float* sums) {
  constexpr int window = Outputs4::window;
  const ptrdiff_t stride = static_cast<ptrdiff_t>(pieces.most) * channels + 64;  // as in winograd_group
  float* const inputs = static_cast<float*>(scratch(2 * window * stride * sizeof(float)));
  float* const gradients = inputs + window * stride;
  ptrdiff_t done = 0;
  for (int i = 0; i < pieces.count; done += static_cast<ptrdiff_t>(pieces.of[i++]) * channels) {
    transform_row<kRow>(pieces.in[i], pieces.grad[i], pieces.of[i], channels, inputs + done, gradients + done, stride);
  }
  for (int k = 0; k < window; ++k) {
    outer(inputs + k * stride, gradients + k * stride, channels, pieces.blocks,
          sums + static_cast<ptrdiff_t>(window * kRow + k) * channels * channels);
  }
}

// A row of positions at a time, so that what is transformed stays near the first-level cache: all 24 of 32 blocks would
// be 0.8 MB with 64 channels.
template <class T>
void weight_gradient(const WeightGradientRows<T>& args) {
  constexpr int step = Outputs4::outputs;
  const int channels = args.channels, all = (args.width + step - 1) / step;
  BlockPieces<T> pieces;
  const auto multiply = [&] {
    multiply_row<0>(pieces, channels, args.sums), multiply_row<1>(pieces, channels, args.sums);
    multiply_row<2>(pieces, channels, args.sums), multiply_row<3>(pieces, channels, args.sums);
    pieces.count = pieces.blocks = 0;
  };
  for (int pair = 0; pair < args.pairs; ++pair) {
    for (int first = 0, blocks; first < all; first += blocks) {
      blocks = all - first < pieces.most - pieces.blocks ? all - first : pieces.most - pieces.blocks;
      const ptrdiff_t at = static_cast<ptrdiff_t>(first) * step * channels;
      const int i = pieces.count++;
      pieces.of[i] = blocks, pieces.blocks += blocks;
      for (int row = 0; row < 4; ++row) pieces.in[i][row] = args.in[4 * pair + row] + at;
      for (int row = 0; row < 2; ++row) pieces.grad[i][row] = args.grad[2 * pair + row] + at + channels;
      if (pieces.blocks == pieces.most) multiply();
    }
  }
  if (pieces.blocks) multiply();
}

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa
