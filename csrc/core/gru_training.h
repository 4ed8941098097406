// One bidirectional GRU layer's recurrence for training, over a batch. Results do not depend on the number of threads.
#pragma once

#include <cstdint>

#include "core/isa.h"
#include "core/thread_pool.h"

namespace mtfa {

// All arrays contiguous: projected, d_projected (batch, frames, 2, 3, hidden); weights (2, 3, hidden, hidden);
// bias_new (2, hidden); states, d_states, d_new (batch, frames, 2, hidden); gates (batch, frames, 2, 4, hidden).
// hidden, frames >= 1. What the numbers are: core/kernels/gru_training.h.
struct GruTraining {
  int64_t batch, frames;
  int hidden;
  Isa isa;

  void forward(const float* projected, const float* weights, const float* bias_new, float* states, float* gates,
               ThreadPool& pool) const;
  void backward(const float* d_states, const float* states, const float* gates, const float* weights,
                float* d_projected, float* d_new, ThreadPool& pool) const;
};

}  // namespace mtfa
