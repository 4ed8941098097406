// Training of 3x3 convolutions, alone and in a residual block with batch norm: forward and back over whole feature
// maps, every element-wise part in a pass over memory that a convolution makes anyway.
#pragma once

#include "core/isa.h"
#include "core/pointwise.h"
#include "core/thread_pool.h"

namespace mtfa {

// Maps are channels-last as MapShape tells, not empty, channels a multiple of 16. T is float or Bf16, which the
// instruction set must have. Weights are (outputs, inputs, 3, 3), their gradients (outputs, 3, 3, inputs), both float.
// Results do not depend on the number of threads.

// out = the convolution of x with zero padding.
template <class T>
void conv3x3(const T* x, const float* weight, T* out, const MapShape& shape, Isa isa, ThreadPool& pool);

template <class T>
void conv3x3_backward(const T* grad, const T* x, const float* weight, T* d_x, float* d_weight, const MapShape& shape,
                      Isa isa, ThreadPool& pool);

// out = relu(norm2(conv2(relu(norm1(conv1(x))))) + x), norms by the statistics of this batch.
// norms (4, channels): scale1, shift1, scale2, shift2. statistics (4, channels), written by forward: mean and
// (biased) variance of y1 and of y2, which are what the convolutions made.
template <class T>
struct BlockTraining {
  MapShape shape;
  const float *weight1, *weight2, *norms;
  double epsilon;
  Isa isa;

  void forward(const T* x, T* y1, T* y2, T* out, float* statistics, ThreadPool& pool) const;

  struct Kept {
    const T *x, *y1, *y2, *out;
    const float* statistics;
  };
  // d_norms as norms.
  void backward(const T* grad, const Kept& kept, T* d_x, float* d_weight1, float* d_weight2, float* d_norms,
                ThreadPool& pool) const;
};

}  // namespace mtfa
