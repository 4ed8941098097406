// One vector type for every instruction set, on the compiler's vector extensions: the same source gives
// SSE2, NEON, AVX2 or AVX-512 code, and a * b + c contracts to a fused multiply-add where there is one.
#pragma once

#include <cstdint>
#include <cstring>
#include <new>

#include "core/kernels/kernels.h"

#ifdef __AVX512F__
#include <immintrin.h>
#endif

#ifndef MTFA_ISA_NAMESPACE
#define MTFA_ISA_NAMESPACE portable
#endif

#define MTFA_INLINE inline __attribute__((always_inline))

namespace mtfa {
namespace MTFA_ISA_NAMESPACE {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kRegisters = 32;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32, kRegisters = 16;
#else
constexpr int kVectorBytes = 16, kRegisters = 16;
#endif
constexpr int kWidth = kVectorBytes / 4;

typedef float Vec __attribute__((vector_size(kVectorBytes)));
typedef int32_t VecI __attribute__((vector_size(kVectorBytes)));
typedef float UnalignedVec __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));

MTFA_INLINE Vec splat(float x) { return x - Vec{}; }  // x - 0 is x, the compiler drops it
MTFA_INLINE Vec load(const float* p) { return *reinterpret_cast<const UnalignedVec*>(p); }
MTFA_INLINE void store(float* p, Vec v) { *reinterpret_cast<UnalignedVec*>(p) = v; }
MTFA_INLINE Vec relu(Vec x) { return x < 0.0f ? Vec{} : x; }                    // NaN stays NaN, as in torch
MTFA_INLINE Vec max(Vec a, Vec b) { return a >= b ? a : (a < b ? b : a + b); }  // NaN wins

#ifdef __AVX512BF16__
MTFA_INLINE Vec load(const Bf16* p) {
  typedef uint16_t Halves __attribute__((vector_size(kVectorBytes / 2)));
  typedef uint32_t Words __attribute__((vector_size(kVectorBytes)));
  Halves halves;
  std::memcpy(&halves, p, sizeof halves);
  return reinterpret_cast<Vec>(__builtin_convertvector(halves, Words) << 16);
}
MTFA_INLINE void store(Bf16* p, Vec v) {
  const __m256bh rounded = _mm512_cvtneps_pbh(reinterpret_cast<__m512>(v));
  std::memcpy(p, &rounded, sizeof rounded);
}
#endif

// e^x, relative error below 2e-7; NaN stays NaN, the argument is held to [-87, 88].
MTFA_INLINE Vec exp(Vec x) {
  x = x < -87.0f ? splat(-87.0f) : x;
  x = x > 88.0f ? splat(88.0f) : x;
  const float round = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  const Vec shifted = x * 1.44269504088896341f + round;
  const Vec n = shifted - round;
  Vec r = x - n * 0.693359375f;  // ln 2 in two parts, the first exact in 9 bits
  r = r + n * 2.12194440e-4f;
  Vec p = splat(1.0f / 720.0f);
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  VecI exponent;
  std::memcpy(&exponent, &shifted, sizeof exponent);
  VecI bits;
  std::memcpy(&bits, &p, sizeof bits);
  bits += exponent << 23;  // the shift drops all of `round` but the integer
  std::memcpy(&p, &bits, sizeof p);
  return p;
}

MTFA_INLINE Vec sigmoid(Vec x) { return 1.0f / (1.0f + exp(-x)); }

// Near zero 1 - e^(-2x) cancels, so an odd series serves |x| < 0.4; absolute error below 1.5e-7.
MTFA_INLINE Vec tanh(Vec x) {
  const Vec far = 2.0f / (1.0f + exp(-2.0f * x)) - 1.0f;
  const Vec s = x * x;
  Vec p = splat(-1382.0f / 155925.0f);
  p = p * s + 62.0f / 2835.0f;
  p = p * s - 17.0f / 315.0f;
  p = p * s + 2.0f / 15.0f;
  p = p * s - 1.0f / 3.0f;
  const Vec near = x + x * s * p;
  return s < 0.16f ? near : far;
}

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa
