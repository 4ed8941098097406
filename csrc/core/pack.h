// Weights in the order in which the kernels read them.
#pragma once

#include <cstring>
#include <vector>

#include "core/kernels/kernels.h"
#include "core/memory.h"

namespace mtfa {

constexpr int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

// Channels of a feature map in memory: zero channels fill up the last vector of the widest instruction set.
constexpr int padded_channels(int channels) { return round_up(channels, 16); }

inline float to_float(Bf16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Nearest even; without a branch, so that a loop over it becomes vectors.
inline Bf16 to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return {static_cast<uint16_t>(x != x ? 0x7fc0 : rounded)};
}

// (rows = k, columns = n) row-major -> panels of `panel` columns, each (k, panel); Bf16: (k / 2, panel, 2).
// Columns are filled up with zeros to a multiple of the panel; `depth` >= k likewise (even for Bf16).
template <class T>
AlignedArray<T> pack_dense(const std::vector<float>& matrix, int rows, int columns, int depth, int panel);

// (C, C, 3, 3) -> Winograd's transformed matrices (C_in, C_out), one for each product of a block, each as pack_dense.
template <class T>
AlignedArray<T> pack_conv3x3(const float* weight, int channels, ConvBlocks blocks, int panel);

// (C, C, 3, 3), C a multiple of 32 -> matrix tiles of a direct convolution, in the order of their use: for each 32
// outputs, tap and 32 inputs two tiles of (16 pairs of inputs, 16 outputs, 2).
AlignedArray<Bf16> pack_conv3x3_tiles(const float* weight, int channels);

// One 3x3 convolution as the table's conv3x3 reads it for maps of T.
template <class T>
struct ConvWeights {
  AlignedArray<T> weights;
  AlignedArray<float> bias;
  ConvBlocks blocks;
};

// weight (C, C, 3, 3), bias (C).
template <class T>
ConvWeights<T> pack_conv(const float* weight, const float* bias, int channels, ConvBlocks blocks,
                         const Kernels& kernels);

// (n) filled up with zeros to a multiple.
AlignedArray<float> pack_vector(const float* vector, int n, int multiple);

// torch's weight_hh (3 * H, H) -> blocks of `block` units, each (H padded, 3, block).
AlignedArray<float> pack_gru(const float* weight_hh, int hidden, int block);

}  // namespace mtfa
