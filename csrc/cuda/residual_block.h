// relu(conv2(relu(conv1(x) + b1)) + b2 + x) in one kernel, for Hopper (sm_90a): a residual block, batch norms folded.
//
//   x, y   [B][T][D][64] bf16, dense (channels-last), starting at a multiple of 16 bytes; y must not overlap x
//   w1, w2 [64 out][64 in][3 along T][3 along D]
//   b1, b2 [64]
// Zero padding, any B, T, D. Products in bf16 with fp32 sums; the map between the convolutions is rounded to bf16.
#pragma once

#include <cstdint>

#include "api.h"

// 32-bit words of the packed weights: fragments of both convolutions, then b1 and b2 in fp32.
enum { MTFA_RESIDUAL_BLOCK_WORDS = 2 * 144 * 128 + 2 * 64 };

// Rounds both weights to bf16 and puts them into the order in which the threads hold them. Word [conv][(tap * 4 + k) *
// 4 + q][i] is what thread i of the convolution's warpgroup holds as register q of the A operand (PTX: "register
// fragments for wgmma.m64nNk16") for input channels 16 k to 16 k + 15 of tap = 3 * dt + dd:
//   row (output channel) = i / 32 * 16 + i % 32 / 4 + 8 * (q & 1)
//   columns (input channels) c and c + 1, the lower in the low half, with c = 16 k + i % 4 * 2 + 8 * (q >> 1)
// `dtype` is that of weights and biases. `channel_stride` and `tap_stride` are the weights' strides in numbers from one
// input channel to the next and from one tap to the next: 9 and 1 if they are contiguous, 1 and 64 if channels-last.
MTFA_API int mtfa_residual_block_pack(const void* w1, const void* b1, const void* w2, const void* b2, int dtype,
                                      int channel_stride, int tap_stride, uint32_t* packed, int device, void* stream);

// `pixels`: width of the strip that a block works on, 32, 64 or 128; strips overlap by 2 where D is wider than one.
// `rows`: rows of the output that a block computes before it ends; each block repeats 2 rows of conv1.
// cudaErrorNotSupported where the device is not of compute capability 9.0 or its driver cannot describe tiles.
MTFA_API int mtfa_residual_block(const void* x, const uint32_t* packed, void* y, int64_t batch, int64_t steps,
                                 int64_t bands, int pixels, int rows, int device, void* stream);

// Runs the kernel in each width, in short and in long blocks, on a small map and gives the largest relative error (RMS)
// against plain loops on the CPU; rounding to bf16 alone gives 1.7e-3. Allocates, waits and may fault: for a process of
// its own.
MTFA_API int mtfa_residual_block_trial(int device, float* worst);

// For tests of the hardware: out [64][128] fp32 = w (64 x 64) times columns dx to dx + 127 of x ([136][64] bf16), by
// one descriptor that starts `dx` rows inside the swizzle pattern, with that base offset. The residual block relies on
// base offset 0, or compiled with MTFA_BASE_OFFSET=1 on base offset dx. `w`: words [k * 4 + q][i] as above.
MTFA_API int mtfa_shifted_descriptor(const uint32_t* w, const void* x, float* out, int dx, int base_offset, int device,
                                     void* stream);
