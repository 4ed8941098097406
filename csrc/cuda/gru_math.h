// The scalar functions of the recurrence.
#pragma once

#include <cuda_runtime.h>

namespace mtfa {

// The hardware's exp2 and reciprocal in the forms that treat denormals as zero: one instruction each, where the others
// need several, in the middle of the chain of steps.
__device__ __forceinline__ float exp2_approximate(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return exp2f(x);
#endif
}
__device__ __forceinline__ float reciprocal(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return 1.0f / x;
#endif
}

// About 2e-7 of absolute error. Large |x| gives exp2 = inf or 0, so 0 or 1.
__device__ __forceinline__ float sigmoid(float x) {
  return reciprocal(1.0f + exp2_approximate(-1.4426950408889634f * x));
}

// 2 sigmoid(2 x) - 1, about 4e-7 of absolute error. tanh.approx.f32 is one instruction, but its 5e-4 would add up over
// the steps.
__device__ __forceinline__ float tanh_by_sigmoid(float x) {
  return fmaf(2.0f, reciprocal(1.0f + exp2_approximate(-2.8853900817779268f * x)), -1.0f);
}

}  // namespace mtfa
