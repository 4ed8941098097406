// The way back through (1 + sigmoid(skip + upsample(low))) * features, for the one or two rows above a row of `low`.
#pragma once

#include "core/isa.h"
#include "core/kernels/kernels.h"

namespace mtfa {

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

struct GateBackwardKernels {
  void (*fp32)(const GateBackwardRows<float>&);
  void (*bf16)(const GateBackwardRows<Bf16>&);  // null where the instruction set has no bf16
};

#define MTFA_DECLARE(ns)                       \
  namespace ns {                               \
  GateBackwardKernels gate_backward_kernels(); \
  }
MTFA_FOR_EACH_ISA(MTFA_DECLARE)
#undef MTFA_DECLARE

}  // namespace mtfa
