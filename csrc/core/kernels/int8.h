// 8-bit feature maps and convolutions, as the packed weights (pack_int8.cpp) and the kernels (winograd_int8.h) agree on
// them.
//
// A map holds values 0 .. 255 of one step for each channel: ReLU has left nothing below zero. Winograd's transformed
// input is a signed value of 8 bits (kept plus 128, since the products want one factor without sign) of one step for
// each position and channel. Transformed weights have 7 bits and a sign of their own: with them no instruction set's
// products overflow, vpmaddubsw's pairs included (2 * 255 * 63 < 2^15), so all have the same sums.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mtfa {

constexpr int kInt8Rows = 4, kInt8Columns = 6;  // positions of a block of 2 x 4 outputs
constexpr int kInt8Positions = kInt8Rows * kInt8Columns;
constexpr int kInt8WeightMax = 63;
constexpr int kInt8Channels = 32;  // maps have a multiple of it

// A transformed value t (an integer, in the map's steps) becomes (t * 4 * multiplier + 2^14) / 2^15, cut to 8 bits.
constexpr float kInt8MultiplierOne = 8192;

// One convolution in one block of memory: the parts one after another, each a multiple of 64 bytes long.
struct Int8Conv {
  const int16_t* multipliers;   // (positions, channels)
  const float* scales;          // (positions, channels): of a sum in the output's steps
  const int32_t* starts;        // (positions, channels): of a sum, -128 times the sum of its weights
  const float* residual_scale;  // (channels): of the residual's steps in the output's
  const int8_t* weights;        // (channels / panel, positions, depth / 4, panel, 4)
};

// `depth`: channels filled up to what the products take at a time.
constexpr size_t int8_conv_bytes(int channels, int depth) {
  return static_cast<size_t>(kInt8Positions) * channels * (2 + 4 + 4) + static_cast<size_t>(channels) * 4 +
         static_cast<size_t>(kInt8Positions) * depth * channels;
}

}  // namespace mtfa
