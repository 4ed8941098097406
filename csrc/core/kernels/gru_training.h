// The GRU recurrence for training: forward keeping its gates, and the way back through time. One direction of one
// layer for some clips of equal length side by side, so that a step is a small matrix product.
#pragma once

#include <cstdint>

#include "core/isa.h"

namespace mtfa {

// Arrays have a clip's frames one after another, both directions in a frame: projected (2, 3 * hidden), states
// (2, hidden), gates (2, 4, hidden) = r, z, n and W_hn h + b_hn. Pointers are to the first of the clips. `padded` is
// hidden rounded up to gru_training_panel(). Scratch: gru_training_scratch() floats, aligned to 64 bytes.
struct GruTrainingShape {
  int64_t frames;
  int clips, hidden, padded;
  int direction;  // 1 runs backward in time
};

struct GruTrainingForward {
  GruTrainingShape shape;
  const float* weights;    // pack_dense of W_hh^T (padded, 3 * padded)
  const float* bias;       // (3 * padded): zeros for r and z, b_hn
  const float* projected;  // W_ih x + b_ih (+ b_hr, b_hz)
  float *states, *gates;   // written
};

// Gradients: d_states of the states; d_projected of the pre-activations; d_new of W_hn h + b_hn, laid out as states.
struct GruTrainingBackward {
  GruTrainingShape shape;
  const float* weights;  // pack_dense of W_hh (3 * padded, padded)
  const float *d_states, *states, *gates;
  float *d_projected, *d_new;  // written
};

#define MTFA_DECLARE(ns)                                          \
  namespace ns {                                                  \
  int gru_training_panel();                                       \
  int64_t gru_training_scratch(const GruTrainingShape&);          \
  void gru_training_forward(const GruTrainingForward&, float*);   \
  void gru_training_backward(const GruTrainingBackward&, float*); \
  }
MTFA_FOR_EACH_ISA(MTFA_DECLARE)
#undef MTFA_DECLARE

}  // namespace mtfa
