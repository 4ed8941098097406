// Weights of 8-bit convolutions: quantised here, from float32 weights and the steps that a calibration chose.
#pragma once

#include "core/kernels/int8.h"
#include "core/pack.h"

namespace mtfa {

constexpr int int8_channels(int channels) { return round_up(channels, kInt8Channels); }

// Steps of one convolution: of its maps, (channels), and of its transformed input, (positions, channels). `residual` is
// null where there is none. All are positive.
struct Int8Steps {
  const float* in;
  const float* transformed;
  const float* out;
  const float* residual;
};

// weight (C, C, 3, 3), bias (C).
ConvWeights<uint8_t> pack_conv_int8(const float* weight, const float* bias, int channels, const Int8Steps& steps,
                                    const Kernels& kernels);

}  // namespace mtfa
