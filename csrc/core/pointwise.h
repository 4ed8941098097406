// The element-wise ends of the mask branch over whole feature maps, each one pass over memory. T is float or Bf16.
#pragma once

#include <cstdint>

#include "core/isa.h"
#include "core/kernels/kernels.h"
#include "core/thread_pool.h"

namespace mtfa {

// Channels-last without padding: (batch, rows, width, channels), channels a multiple of 16. A map of half the size has
// ceil(rows / 2) rows of ceil(width / 2) pixels.
struct MapShape {
  int64_t batch, rows;
  int width, channels;
};

// out = skip + upsample(low); low of half the size.
template <class T>
void upsample_add(const T* low, const T* skip, T* out, const MapShape& shape, const Kernels& kernels, ThreadPool& pool);

// out = (1 + sigmoid(logits)) * features, `count` values in any layout.
template <class T>
void attention_gate(const T* logits, const T* features, T* out, int64_t count, const Kernels& kernels,
                    ThreadPool& pool);

// out = (1 + sigmoid(skip + upsample(low))) * features; low of half the size.
template <class T>
void upsample_add_gate(const T* low, const T* skip, const T* features, T* out, const MapShape& shape,
                       const Kernels& kernels, ThreadPool& pool);

// d_low = the gradient of upsample_add's low, given its result's; that of skip is the result's own.
template <class T>
void upsample_add_backward(const T* grad, T* d_low, const MapShape& shape, Isa isa, ThreadPool& pool);

// The gradients of attention_gate's inputs, given its result's.
template <class T>
struct AttentionGradients {
  const T *grad, *logits, *features;
  T *d_logits, *d_features;
};
template <class T>
void attention_gate_backward(const AttentionGradients<T>& maps, int64_t count, Isa isa, ThreadPool& pool);

// The gradients of upsample_add_gate's inputs, given its result's.
template <class T>
struct GateGradients {
  const T *grad, *low, *skip, *features;
  T *d_low, *d_skip, *d_features;
};
template <class T>
void upsample_add_gate_backward(const GateGradients<T>& maps, const MapShape& shape, Isa isa, ThreadPool& pool);

}  // namespace mtfa
