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
#ifdef __ARM_FEATURE_BF16_VECTOR_ARITHMETIC
#include <arm_neon.h>
#endif
#if defined(__AVX512BF16__) || defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define MTFA_HAS_BF16 1  // products of bf16, and rounding to it
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
#elif defined(__aarch64__)
constexpr int kVectorBytes = 16, kRegisters = 32;
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

#ifdef MTFA_HAS_BF16
MTFA_INLINE Vec load(const Bf16* p) {
  typedef uint16_t Halves __attribute__((vector_size(kVectorBytes / 2)));
  typedef uint32_t Words __attribute__((vector_size(kVectorBytes)));
  Halves halves;
  std::memcpy(&halves, p, sizeof halves);
  return reinterpret_cast<Vec>(__builtin_convertvector(halves, Words) << 16);
}
MTFA_INLINE void store(Bf16* p, Vec v) {
#ifdef __AVX512BF16__
  const __m256bh rounded = _mm512_cvtneps_pbh(reinterpret_cast<__m512>(v));
#else
  const bfloat16x4_t rounded = vcvt_bf16_f32(reinterpret_cast<float32x4_t>(v));
#endif
  std::memcpy(p, &rounded, sizeof rounded);
}
#endif

// x as n ln 2 + r with |r| <= ln 2 / 2, n an integer: returns e^r - 1, and n in `exponent` from its bit 23 on.
// The polynomial has the least largest error that its length allows, 3e-9, far below the last place.
MTFA_INLINE Vec exp_rest(Vec x, VecI* exponent) {
  const float round = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  const Vec shifted = x * 1.44269504088896341f + round;
  const Vec n = shifted - round;
  Vec r = x - n * 0.693359375f;  // ln 2 in two parts, the first exact in 9 bits
  r = r + n * 2.12194440e-4f;
  Vec p = splat(0.0013821468f);
  p = p * r + 0.008368663f;
  p = p * r + 0.041668255f;
  p = p * r + 0.16666521f;
  p = p * r + 0.49999994f;
  VecI bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  *exponent = bits << 23;  // drops all of `round` but the integer
  return r * r * p + r;
}

// e^x, within one unit of the last place; NaN stays NaN, the argument is held to [-87, 88].
MTFA_INLINE Vec exp(Vec x) {
  x = x < -87.0f ? splat(-87.0f) : x;
  x = x > 88.0f ? splat(88.0f) : x;
  VecI exponent, bits;
  Vec p = 1.0f + exp_rest(x, &exponent);
  std::memcpy(&bits, &p, sizeof bits);
  bits += exponent;
  std::memcpy(&p, &bits, sizeof p);
  return p;
}

MTFA_INLINE Vec sigmoid(Vec x) { return 1.0f / (1.0f + exp(-x)); }

// By e^(2x) - 1, in which nothing cancels near zero; within two units of the last place, and 1 in float32 beyond 9.5.
MTFA_INLINE Vec tanh(Vec x) {
  x = x < -9.5f ? splat(-9.5f) : x;
  x = x > 9.5f ? splat(9.5f) : x;
  VecI bits;
  const Vec rest = exp_rest(x + x, &bits);
  bits += 127 << 23;
  Vec power;
  std::memcpy(&power, &bits, sizeof power);
  const Vec grown = power * rest + (power - 1.0f);
  return grown / (grown + 2.0f);
}

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa
