// The recurrence of one bidirectional GRU layer, PyTorch's equations and gate order (r, z, n):
//
//   r = sigmoid(gi_r + W_hr h)    z = sigmoid(gi_z + W_hz h)
//   n = tanh(gi_n + r * (W_hn h + b_hn))    h' = n + z * (h - n)
//
// The input projections of all steps come first, from one matrix product: gi = x W_ih^T + b_ih, with b_hr and b_hz
// added too (b_hn stays apart, since r multiplies it). The state starts at zero and is held in fp32.
//
//   B clips, T steps, H hidden units; direction 0 runs forward in time, 1 backward; all arrays dense, row-major
//   gi     [B][T][2][3H]      of type `dtype`
//   w_hh   [2][3H][H]         fp32
//   b_hn   [2][H]             fp32
//   out    [B][T][2H]         of type `dtype`; written whole
//   gates  [B][T][2][4][H]    fp32: r, z, n and W_hn h + b_hn, for the backward pass; null when nobody needs them
//
// Inputs and outputs must not overlap.
#pragma once

#include <cstdint>

#include "api.h"

// Recurrent weights in registers for all steps: H = 64 or 128 (otherwise cudaErrorInvalidValue).
// `lanes`: threads that share one hidden unit; 0 is the default, H = 64 takes 2 (or 4 in fp32), H = 128 takes 4.
MTFA_API int mtfa_bigru_forward(const void* gi, const float* w_hh, const float* b_hn, void* out, float* gates,
                                int dtype, int64_t batch, int64_t steps, int hidden, int lanes, int device,
                                void* stream);

// Gradients of the loss with respect to the pre-activations, given those with respect to `out`:
//   d_out  [B][T][2H]        of type `dtype`
//   d_gi   [B][T][2][3H]     of type `dtype`: with respect to gi (for r and z also to W_h h, where the two only add)
//   d_hn   [B][T][2][H]      of type `dtype`: with respect to W_hn h + b_hn
// Everything else is a matrix product or a sum of these, which the caller's library does best.
MTFA_API int mtfa_bigru_backward(const void* d_out, const void* out, const float* gates, const float* w_hh, void* d_gi,
                                 void* d_hn, int dtype, int64_t batch, int64_t steps, int hidden, int device,
                                 void* stream);

// Any H up to 256, fp32 only: what fits of the weights stays in shared memory, the rest is read from the L2 cache each
// step, once for all clips of a block. `w_hh_t` is [2][H][3H].
MTFA_API int mtfa_bigru_wide_forward(const float* gi, const float* w_hh_t, const float* b_hn, float* out, float* gates,
                                     int64_t batch, int64_t steps, int hidden, int device, void* stream);

// As mtfa_bigru_backward; `w_hh` is [2][3H][H].
MTFA_API int mtfa_bigru_wide_backward(const float* d_out, const float* out, const float* gates, const float* w_hh,
                                      float* d_gi, float* d_hn, int64_t batch, int64_t steps, int hidden, int device,
                                      void* stream);
