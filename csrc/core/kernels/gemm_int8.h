// Products of 8-bit values, exact in 32 bits: a few rows of transformed input (plus 128, without sign), four values at
// a time, times a panel of signed weights two vectors wide.
#pragma once

#include "core/kernels/gemm.h"
#include "core/kernels/int8.h"

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_DOTPROD) || defined(__ARM_FEATURE_MATMUL_INT8)
#include <arm_neon.h>
#endif

namespace mtfa {
namespace MTFA_ISA_NAMESPACE {

// Rows of a tile: sums, two vectors of weights, one broadcast and, without VNNI, what a product takes between.
#if defined(__AVX512F__) || defined(__ARM_FEATURE_DOTPROD) || defined(__ARM_FEATURE_MATMUL_INT8)
constexpr int kInt8TileRows = 8;
#else
constexpr int kInt8TileRows = 4;
#endif

MTFA_INLINE VecI load_ints(const void* p) {
  VecI v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
MTFA_INLINE void store_ints(int32_t* p, VecI v) { std::memcpy(p, &v, sizeof v); }

// sum + the products of four values without sign, the same in every lane, with four signed ones.
#if defined(__AVX512VNNI__)
MTFA_INLINE VecI dot4(VecI sum, VecI x, VecI w) {
  return reinterpret_cast<VecI>(
      _mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(x), reinterpret_cast<__m512i>(w)));
}
#elif defined(__AVX512BW__)
MTFA_INLINE VecI dot4(VecI sum, VecI x, VecI w) {
  const __m512i pairs = _mm512_maddubs_epi16(reinterpret_cast<__m512i>(x), reinterpret_cast<__m512i>(w));
  return sum + reinterpret_cast<VecI>(_mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
#elif defined(__AVXVNNI__)
MTFA_INLINE VecI dot4(VecI sum, VecI x, VecI w) {
  return reinterpret_cast<VecI>(_mm256_dpbusd_avx_epi32(reinterpret_cast<__m256i>(sum), reinterpret_cast<__m256i>(x),
                                                        reinterpret_cast<__m256i>(w)));
}
#elif defined(__AVX2__)
MTFA_INLINE VecI dot4(VecI sum, VecI x, VecI w) {
  const __m256i pairs = _mm256_maddubs_epi16(reinterpret_cast<__m256i>(x), reinterpret_cast<__m256i>(w));
  return sum + reinterpret_cast<VecI>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
#elif defined(__ARM_FEATURE_MATMUL_INT8)
MTFA_INLINE VecI dot4(VecI sum, VecI x, VecI w) {
  return vusdotq_s32(sum, reinterpret_cast<uint8x16_t>(x), reinterpret_cast<int8x16_t>(w));
}
#elif defined(__ARM_FEATURE_DOTPROD)
// Both factors have signs: x - 128, and what that takes away, 128 times the weights, which all rows share.
MTFA_INLINE VecI dot4(VecI sum, VecI x, VecI w) {
  const int8x16_t centred = vreinterpretq_s8_u8(veorq_u8(reinterpret_cast<uint8x16_t>(x), vdupq_n_u8(128)));
  const int8x16_t weights = reinterpret_cast<int8x16_t>(w), half = vdupq_n_s8(64);
  const int32x4_t taken = vdotq_s32(vdotq_s32(vdupq_n_s32(0), half, weights), half, weights);
  return vdotq_s32(sum, centred, weights) + taken;
}
#else
// By bytes of 32-bit lanes: with shifts alone every instruction set's vectors can do it.
MTFA_INLINE VecI dot4(VecI sum, VecI x, VecI w) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) sum += (x >> (8 * i) & 255) * ((w << (24 - 8 * i)) >> 24);
  return sum;
}
#endif

MTFA_INLINE VecI broadcast4(const uint8_t* p) {
  int32_t four;
  std::memcpy(&four, p, sizeof four);
  return four - VecI{};
}

// sums (kRows, kPanel) = starts + x (kRows, depth) * panel (depth / 4, kPanel, 4).
template <int kRows>
MTFA_INLINE void int8_tile(const uint8_t* x, ptrdiff_t x_stride, const int8_t* panel, const int32_t* starts, int depth,
                           int32_t* sums) {
  VecI sum[kRows][kPanelVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kPanelVectors; ++v) sum[r][v] = load_ints(starts + v * kWidth);
  }
  // Four rows share a base pointer: no address is spilled.
  const uint8_t* base[(kRows + 3) / 4];
#pragma GCC unroll 2
  for (int i = 0; i < (kRows + 3) / 4; ++i) base[i] = x + 4 * i * x_stride;
  for (int k = 0; k < depth; k += 4, panel += 4 * kPanel) {
    VecI weights[kPanelVectors];
    for (int v = 0; v < kPanelVectors; ++v) weights[v] = load_ints(panel + v * kVectorBytes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const VecI four = broadcast4(base[r / 4] + (r % 4) * x_stride + k);
      for (int v = 0; v < kPanelVectors; ++v) sum[r][v] = dot4(sum[r][v], four, weights[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kPanelVectors; ++v) store_ints(sums + r * kPanel + v * kWidth, sum[r][v]);
  }
}

// int8_tile for any number of rows.
template <int kRows = kInt8TileRows>
MTFA_INLINE void int8_rows(int rows, const uint8_t* x, ptrdiff_t x_stride, const int8_t* panel, const int32_t* starts,
                           int depth, int32_t* sums) {
  if constexpr (kRows > 0) {
    while (rows >= kRows) {
      int8_tile<kRows>(x, x_stride, panel, starts, depth, sums);
      x += kRows * x_stride, sums += kRows * kPanel, rows -= kRows;
    }
    int8_rows<kRows / 2>(rows, x, x_stride, panel, starts, depth, sums);
  }
}

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa
