// 3x3 convolution of 8-bit maps by Winograd, in blocks of 2 rows x 4 columns of outputs (winograd.h has the idea): the
// points 0, +-1, +-2 make the input's transform exact in 16 bits, which then goes to 8 bits by one rounding multiply.
// Products and sums are exact in 32 bits. The output's transform is float: its multiplications by 2, 4 and 8 are exact
// and the others must not be fused with additions (this code is compiled with -ffp-contract=off), so that every
// instruction set makes the same bytes.
//
// One call makes one pair of output rows, a group of blocks at a time, a panel of output channels after another: the
// transformed input of a group and a panel's sums stay in the first-level cache, the weights in the second.
#pragma once

#include "core/kernels/bytes.h"
#include "core/kernels/tiles_int8.h"

namespace mtfa {
namespace MTFA_ISA_NAMESPACE {

constexpr int kShorts = kVectorBytes / 2;
typedef int16_t Short __attribute__((vector_size(kVectorBytes)));

#if defined(__AVX512BW__)
// Four times the bytes.
MTFA_INLINE Short load_quadrupled(const uint8_t* p) {
  return reinterpret_cast<Short>(
      _mm512_slli_epi16(_mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 2));
}
// (x * multiplier + 2^14) / 2^15 cut to 8 bits, plus 128.
MTFA_INLINE void store_quantised(uint8_t* p, Short x, const int16_t* multipliers) {
  const __m512i scaled = _mm512_mulhrs_epi16(reinterpret_cast<__m512i>(x), _mm512_loadu_si512(multipliers));
  const __m256i bytes = _mm256_xor_si256(_mm512_cvtsepi16_epi8(scaled), _mm256_set1_epi8(-128));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), bytes);
}
#elif defined(__AVX2__)
MTFA_INLINE Short load_quadrupled(const uint8_t* p) {
  return reinterpret_cast<Short>(
      _mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 2));
}
MTFA_INLINE void store_quantised(uint8_t* p, Short x, const int16_t* multipliers) {
  const __m256i m = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(multipliers));
  const __m256i scaled = _mm256_mulhrs_epi16(reinterpret_cast<__m256i>(x), m);
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(scaled), _mm256_extracti128_si256(scaled, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_xor_si128(bytes, _mm_set1_epi8(-128)));
}
#else
MTFA_INLINE Short load_quadrupled(const uint8_t* p) {
  Short x;
  for (int i = 0; i < kShorts; ++i) x[i] = static_cast<int16_t>(4 * p[i]);
  return x;
}
MTFA_INLINE void store_quantised(uint8_t* p, Short x, const int16_t* multipliers) {
  for (int i = 0; i < kShorts; ++i) {
    const int scaled = (x[i] * multipliers[i] + (1 << 14)) >> 15;
    p[i] = static_cast<uint8_t>((scaled < -128 ? -128 : scaled > 127 ? 127 : scaled) + 128);
  }
}
#endif

// B^T of the points 0, 1, -1 and of 0, 1, -1, 2, -2, each with infinity.
MTFA_INLINE void int8_input2(const Short* d, Short* v) {
  v[0] = d[2] - d[0], v[1] = d[2] + d[1], v[2] = d[2] - d[1], v[3] = d[3] - d[1];
}
MTFA_INLINE void int8_input4(const Short* d, Short* v) {
  const Short four1 = d[1] << 2, four2 = d[2] << 2, even = d[4] - four2, odd = d[3] - four1;
  const Short even2 = d[4] - d[2], difference = d[3] - d[1], odd2 = difference + difference;
  v[0] = (d[0] << 2) + (even2 - four2);
  v[1] = even + odd, v[2] = even - odd;
  v[3] = even2 + odd2, v[4] = even2 - odd2;
  v[5] = (d[5] - d[3]) + (four1 - (d[3] << 2));
}
MTFA_INLINE void int8_output2(const Vec* m, Vec* y) { y[0] = m[0] + m[1] + m[2], y[1] = m[1] - m[2] + m[3]; }
MTFA_INLINE void int8_output4(const Vec* m, Vec* y) {
  const Vec even1 = m[1] + m[2], odd1 = m[1] - m[2], even2 = m[3] + m[4], odd2 = m[3] - m[4];
  y[0] = m[0] + even1 + even2;
  y[1] = odd1 + 2.0f * odd2;
  y[2] = even1 + 4.0f * even2;
  y[3] = odd1 + 8.0f * odd2 + m[5];
}

// Rows (blocks, channels) of every position, `stride` bytes from one position to the next.
MTFA_INLINE void int8_transform_input(const uint8_t* const rows[4], int blocks, int channels,
                                      const int16_t* multipliers, uint8_t* out, ptrdiff_t stride) {
  for (int c = 0; c < channels; c += kShorts) {
    Short column[4][6];  // [vertical position][pixel of the block]
    auto vertical = [&](int pixel, int place) {
      const ptrdiff_t at = static_cast<ptrdiff_t>(pixel) * channels + c;
      const Short d[4] = {load_quadrupled(rows[0] + at), load_quadrupled(rows[1] + at), load_quadrupled(rows[2] + at),
                          load_quadrupled(rows[3] + at)};
      Short v[4];
      int8_input2(d, v);
      for (int i = 0; i < 4; ++i) column[i][place] = v[i];
    };
    vertical(0, 0);
    vertical(1, 1);
    for (int j = 0; j < blocks; ++j) {
#pragma GCC unroll 4
      for (int pixel = 2; pixel < 6; ++pixel) vertical(4 * j + pixel, pixel);
      uint8_t* to = out + static_cast<ptrdiff_t>(j) * channels + c;
      const int16_t* m = multipliers + c;
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        Short v[6];
        int8_input4(column[i], v);
#pragma GCC unroll 6
        for (int k = 0; k < 6; ++k) {
          const int position = 6 * i + k;
          store_quantised(to + position * stride, v[k], m + static_cast<ptrdiff_t>(position) * channels);
        }
        column[i][0] = column[i][4];
        column[i][1] = column[i][5];
      }
    }
  }
}

// One panel's sums, (blocks, kPanel) of every position, into the output rows from channel `n` on.
MTFA_INLINE void int8_transform_output(const ConvRows<uint8_t>& args, const Int8Conv& conv, const int32_t* sums,
                                       ptrdiff_t stride, int blocks, int n) {
  const int channels = args.channels;
  for (int j = 0; j < blocks; ++j) {
    for (int v = 0; v < kPanel; v += kWidth) {
      const int c = n + v;
      Vec columns[2][6];
#pragma GCC unroll 6
      for (int k = 0; k < 6; ++k) {
        Vec m[4], y[2];
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          const int position = 6 * i + k;
          const VecI sum = load_ints(sums + position * stride + j * kPanel + v);
          m[i] =
              __builtin_convertvector(sum, Vec) * load(conv.scales + static_cast<ptrdiff_t>(position) * channels + c);
        }
        int8_output2(m, y);
        columns[0][k] = y[0], columns[1][k] = y[1];
      }
      const Vec bias = load(args.bias + c), residual_scale = load(conv.residual_scale + c);
#pragma GCC unroll 2
      for (int row = 0; row < 2; ++row) {
        if (!args.out[row]) continue;
        Vec y[4];
        int8_output4(columns[row], y);
#pragma GCC unroll 4
        for (int pixel = 0; pixel < 4; ++pixel) {
          if (4 * j + pixel >= args.width) continue;
          const ptrdiff_t at = static_cast<ptrdiff_t>(4 * j + pixel + 1) * channels + c;
          Vec value = y[pixel] + bias;
          if (args.residual[row]) value += load_bytes(args.residual[row] + at) * residual_scale;
          store_bytes(args.out[row] + at, value);  // nothing below zero: ReLU
        }
      }
    }
  }
}

inline void int8_group(const ConvRows<uint8_t>& args, const Int8Conv& conv, int depth) {
  const int channels = args.channels, blocks = (args.width + 3) / 4;
  // A line of padding puts the positions of one block into different sets of the first-level cache; the tiles read
  // whole rows of 64 bytes beyond the last one.
  const ptrdiff_t in_stride = static_cast<ptrdiff_t>(kInt8Blocks) * channels + 64;
  const ptrdiff_t out_stride = static_cast<ptrdiff_t>(kInt8Blocks) * kPanel + 16;
  char* memory = static_cast<char*>(scratch(kInt8Positions * (in_stride + out_stride * sizeof(int32_t))));
  uint8_t* transformed = reinterpret_cast<uint8_t*>(memory);
  int32_t* sums = reinterpret_cast<int32_t*>(memory + kInt8Positions * in_stride);

  int8_transform_input(args.in, blocks, channels, conv.multipliers, transformed, in_stride);
  const int8_t* weights = conv.weights;
  for (int n = 0; n < channels; n += kPanel) {
    for (int p = 0; p < kInt8Positions; ++p) {
      int8_products(blocks, transformed + p * in_stride, channels, weights,
                    conv.starts + static_cast<ptrdiff_t>(p) * channels + n, depth, sums + p * out_stride);
      weights += static_cast<ptrdiff_t>(depth) * kPanel;
    }
    int8_transform_output(args, conv, sums, out_stride, blocks, n);
  }
}

inline void winograd_int8(const ConvRows<uint8_t>& args) {
  const int channels = args.channels, depth = (channels + kInt8Depth - 1) / kInt8Depth * kInt8Depth;
  const size_t plane = static_cast<size_t>(kInt8Positions) * channels;
  Int8Conv conv;
  conv.multipliers = static_cast<const int16_t*>(args.weights);
  conv.scales = reinterpret_cast<const float*>(conv.multipliers + plane);
  conv.starts = reinterpret_cast<const int32_t*>(conv.scales + plane);
  conv.residual_scale = reinterpret_cast<const float*>(conv.starts + plane);
  conv.weights = reinterpret_cast<const int8_t*>(conv.residual_scale + channels);
  constexpr int group = 4 * kInt8Blocks;  // pixels
  configure_int8();
  for (int x = 0; x < args.width; x += group) {
    ConvRows<uint8_t> part = args;
    const ptrdiff_t at = static_cast<ptrdiff_t>(x) * channels;
    for (const uint8_t*& row : part.in) row += at;
    for (const uint8_t*& row : part.residual) row += row ? at : 0;
    for (uint8_t*& row : part.out) row += row ? at : 0;
    part.width = args.width - x < group ? args.width - x : group;
    int8_group(part, conv, depth);
  }
  release_int8();
}

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa
