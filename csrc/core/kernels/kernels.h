// What every instruction set provides: one table of plain functions, chosen at run time.
//
// A feature-map row is channels-last: (width + 5) pixels of `channels` values, where pixel 0 and the
// pixels after `width` are the zero padding of the convolutions: one, and what the last block of four columns reads
// beyond it. Row pointers point at pixel 0.
// `channels` is a multiple of 16 (padded with zero channels), of 32 for 8-bit maps. T is float, Bf16, or uint8_t: a map
// in steps of its own for each channel, with nothing below zero (int8.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace mtfa {

constexpr int kReadAhead = 16;  // pixels

struct Bf16 {
  uint16_t bits;
};

// What leaves the gate: the recurrent part has no 8-bit products.
template <class T>
using VectorOf = std::conditional_t<std::is_same_v<T, uint8_t>, float, T>;

// What Winograd's convolution makes at a time, in frames x mel bands: 4 or 3 products an output instead of 9. A
// convolution of 64 channels by itself errs 1.6 and 2.4 times as much as a direct one in bf16, see docs/numerics.md.
enum class ConvBlocks { rows2_columns2, rows2_columns4 };

// One pair of output rows t, t + 1 of a 3x3 convolution: out = [relu](conv(in) + bias [+ residual]).
template <class T>
struct ConvRows {
  const T* in[4];        // rows t - 1 .. t + 2; a zero row outside the map
  const T* residual[2];  // rows t, t + 1, or null
  T* out[2];             // out[1] is null when the map ends after row t
  int width;
  int channels;
  const void* weights;  // as packed for this table and `blocks` (pack.h)
  const float* bias;    // (channels)
  bool relu;
  ConvBlocks blocks;  // no matter where the weights are tiles of a direct convolution
};

// One row of the 3x3 convolution 1 -> channels with bias and ReLU.
template <class T>
struct StemRow {
  const float* in[3];    // rows t - 1 .. t + 1, (width + 2) values, zeros at both ends
  const float* weights;  // (9, channels)
  const float* bias;     // (channels)
  T* out;
  int width;
  int channels;
};

// out (rows, columns) = [relu](in (rows, depth) * weights + bias).
template <class T>
struct Dense {
  const T* in;
  ptrdiff_t in_stride;
  const void* weights;  // as packed by pack_dense for this table
  const float* bias;    // (columns padded to the panel), or null
  float* out;
  ptrdiff_t out_stride;
  int rows;
  int depth;    // even for Bf16
  int columns;  // a multiple of the table's panel
  bool relu;
  int chain = 64;  // values of a row whose products are summed before they join the sum of the others
};

// One row of A = (1 + sigmoid(project(skip) + upsample(low))) * features, then the maximum of each
// group of `pooling` pixels.
template <class T>
struct GateRow {
  const T* skip;        // null: no mask branch, A = features
  const void* weights;  // packed 1x1 projection, or null: the mask is skip + upsample(low) itself
  const float* bias;    // (channels padded to the panel), with weights
  const float* low;     // projected row of half the width, (width / 2, channels), or null
  const T* features;
  VectorOf<T>* out;  // (width / pooling, channels), no padding
  int width;
  int channels;
  int pooling;
  float* masks = nullptr;  // for checks: M as it is used, (width, channels)
  // The steps of 8-bit maps, (channels); null: `weights` count in steps.
  const float* features_step = nullptr;
  const float* skip_step = nullptr;
};

// One direction of one GRU layer. Gates r, z, n in torch's order and equations; `hidden` is padded to
// the table's gru_block, each gate's columns with it.
struct GruRun {
  const float* weights;   // as packed by pack_gru for this table
  const float* bias_new;  // b_hn (hidden)
  float* const* gates;    // per frame, from gates_offset: (3 * hidden) = W_ih x + b_ih (+ b_hr, b_hz)
  ptrdiff_t gates_offset;
  float* const* states;  // per frame, from states_offset: (hidden), written
  ptrdiff_t states_offset;
  int64_t frames;
  int hidden;
  bool reverse;
  const float* initial = nullptr;  // (hidden), the state before the first step; null: zeros
  int64_t steps_before = 0;  // of the same sequence, in earlier calls: what is cut in two has the bits of the whole
};

template <class T>
struct TypedKernels {
  void (*conv3x3)(const ConvRows<T>&);
  void (*stem)(const StemRow<T>&);
  void (*dense)(const Dense<T>&);
  void (*gate)(const GateRow<T>&);
  // out (width / 2) = maximum over 2x2 pixels of rows a and b.
  void (*pool)(const T* a, const T* b, T* out, int width, int channels);
  // out (width) = skip + low, each pixel of low twice.
  void (*upsample_add)(const T* skip, const T* low, T* out, int width, int channels);
};

struct Kernels {
  int panel;          // columns of dense weights that stand together
  int gru_block;      // GRU units that stand together
  int tile_channels;  // bf16 conv3x3 reads pack_conv3x3_tiles' weights where channels is a multiple of this; 0: never
  TypedKernels<float> fp32;
  const TypedKernels<Bf16>* bf16;  // null where the instruction set has no bf16 products
  TypedKernels<uint8_t> int8;
  int int8_depth;  // channels that 8-bit products take at a time
  void (*gru)(const GruRun&);
};

#define MTFA_DECLARE_KERNELS(isa) \
  namespace isa {                 \
  const Kernels& kernels();       \
  }
MTFA_DECLARE_KERNELS(portable)
MTFA_DECLARE_KERNELS(avx2)
MTFA_DECLARE_KERNELS(avx512)
MTFA_DECLARE_KERNELS(avx512bf16)
MTFA_DECLARE_KERNELS(amx)
MTFA_DECLARE_KERNELS(neonbf16)
#undef MTFA_DECLARE_KERNELS
// What VNNI adds to two of them, and what ARM64's own 8-bit products add to NEON.
namespace avx2vnni {
void conv3x3_int8(const ConvRows<uint8_t>&);
}
namespace avx512vnni {
void conv3x3_int8(const ConvRows<uint8_t>&);
}
namespace neondot {
void conv3x3_int8(const ConvRows<uint8_t>&);
}
namespace neoni8mm {
void conv3x3_int8(const ConvRows<uint8_t>&);
}

}  // namespace mtfa
