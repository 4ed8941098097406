// What training a residual block does to rows of feature maps besides its convolutions (core/block_training.h).
//
// Rows are `width` pixels of `channels` values, channels a multiple of 16; the vectors of a norm hold one value a
// channel.
#pragma once

#include <cstdint>

#include "core/isa.h"
#include "core/kernels/kernels.h"

namespace mtfa {

// Adds the products of Winograd's weight gradient for some pairs of rows, in blocks of 2 rows x 4 columns of outputs:
// sums (24, inputs, outputs) += (B^T d B) x (A dY A^T), summed over the blocks; G^T sums G is the weights' gradient.
template <class T>
struct WeightGradientRows {
  const T* const* in;  // for each pair rows t - 1 .. t + 2 of the convolution's input, with padding as ConvRows has it
  const T* const* grad;  // for each pair rows t, t + 1 of its result's gradient, likewise; a zero row beyond the map
  int pairs, width, channels;
  float* sums;
};

template <class T>
struct BlockTrainingKernels {
  void (*weight_gradient)(const WeightGradientRows<T>& rows);
  // mean (channels), and the sums of squares about it.
  void (*moments)(const T* row, int width, int channels, float* mean, float* squares);
  // out = relu(scale * row + shift [+ residual]).
  void (*normalize)(const T* row, const float* scale, const float* shift, const T* residual, T* out, int width,
                    int channels);
  // sum = of dz, product = of dz * (y - mean), where dz is grad with zeros where the ReLU's result `out` is none.
  void (*gradient_sums)(const T* grad, const T* out, const T* y, const float* mean, float* sum, float* product,
                        int width, int channels);
  // to = a * dz + b * (y - mean) + c, the four vectors in one array; `out` null: grad is dz already.
  void (*norm_gradient)(const T* grad, const T* out, const T* y, const float* vectors, T* to, int width, int channels);
  // row becomes dz of row, where scale * y + shift is what went into the ReLU; sums as above.
  void (*relu_gradient)(T* row, const T* y, const float* scale, const float* shift, const float* mean, float* sum,
                        float* product, int width, int channels);
  // row += dz.
  void (*add_gradient)(T* row, const T* grad, const T* out, int width, int channels);
};

struct TrainingKernels {
  BlockTrainingKernels<float> fp32;
  BlockTrainingKernels<Bf16> bf16;  // null where the instruction set has no bf16
};

#define MTFA_DECLARE(ns)              \
  namespace ns {                      \
  TrainingKernels training_kernels(); \
  }
MTFA_FOR_EACH_ISA(MTFA_DECLARE)
#undef MTFA_DECLARE

}  // namespace mtfa
