// The way back through the element-wise ends of the mask branch (core/pointwise.h).
#pragma once

#include <cstdint>

#include "core/isa.h"
#include "core/kernels/kernels.h"

namespace mtfa {

// Through (1 + sigmoid(skip + upsample(low))) * features, for the one or two rows above a row of `low`.
// Rows are (width, channels) without padding, low and d_low (ceil(width / 2), channels); channels a multiple of 16.
// The second row's pointers are null where the map ends before it.
template <class T>
struct GateBackwardRows {
  const T *grad[2], *skip[2], *features[2];
  const T* low;
  T *d_skip[2], *d_features[2];
  T* d_low;
  int width, channels;
};

template <class T>
struct TypedBackwardKernels {
  void (*upsample_add_gate)(const GateBackwardRows<T>& rows);
  // Through (1 + sigmoid(logits)) * features; `count` is a multiple of 16.
  void (*attention_gate)(const T* grad, const T* logits, const T* features, T* d_logits, T* d_features, int64_t count);
  // Through upsample(low): the sums of the 2 x 2 squares of the one or two rows, which are as above.
  void (*upsample)(const T* const* grad, T* d_low, int width, int channels);
};

struct GateBackwardKernels {
  TypedBackwardKernels<float> fp32;
  TypedBackwardKernels<Bf16> bf16;  // null where the instruction set has no bf16
};

#define MTFA_DECLARE(ns)                       \
  namespace ns {                               \
  GateBackwardKernels gate_backward_kernels(); \
  }
MTFA_FOR_EACH_ISA(MTFA_DECLARE)
#undef MTFA_DECLARE

}  // namespace mtfa
