// Values 0 .. 255 of 8-bit maps as vectors of floats.
#pragma once

#include "core/kernels/simd.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace mtfa {
namespace MTFA_ISA_NAMESPACE {

// load_bytes: kWidth values. store_bytes: the nearest of 0 .. 255, ties to even.
#if defined(__AVX512F__)
MTFA_INLINE Vec load_bytes(const uint8_t* p) {
  return reinterpret_cast<Vec>(
      _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))));
}
MTFA_INLINE void store_bytes(uint8_t* p, Vec v) {
  // What is too large for an integer becomes 2^31, which counts as 255 without sign.
  const __m512i rounded = _mm512_cvtps_epi32(_mm512_max_ps(reinterpret_cast<__m512>(v), _mm512_setzero_ps()));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtusepi32_epi8(rounded));
}
#elif defined(__AVX2__)
MTFA_INLINE Vec load_bytes(const uint8_t* p) {
  return reinterpret_cast<Vec>(
      _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))));
}
MTFA_INLINE void store_bytes(uint8_t* p, Vec v) {
  const __m256i rounded = _mm256_cvtps_epi32(_mm256_min_ps(reinterpret_cast<__m256>(v), _mm256_set1_ps(255)));
  const __m128i halves = _mm_packs_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(halves, halves));
}
#else
MTFA_INLINE Vec load_bytes(const uint8_t* p) {
  Vec v;
  for (int i = 0; i < kWidth; ++i) v[i] = p[i];
  return v;
}
MTFA_INLINE void store_bytes(uint8_t* p, Vec v) {
  v = v < 0.0f ? Vec{} : v;
  v = v > 255.0f ? splat(255.0f) : v;
  const Vec rounded = (v + 12582912.0f) - 12582912.0f;  // 1.5 * 2^23 leaves the nearest integer
  for (int i = 0; i < kWidth; ++i) p[i] = static_cast<uint8_t>(rounded[i]);
}
#endif

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa
