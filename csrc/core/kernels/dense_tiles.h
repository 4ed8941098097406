// The matrix product of gemm.h on AMX tiles, for bf16: the 1x1 projection and the GRU's input, which on vectors would
// cost a sixth of what all the convolutions cost on tiles. Reads the same packed panels: two of a panel's lines of 16
// pairs of inputs are one tile each. Bias is where the sums start, a line loaded into all 16 rows of a tile.
//
// Rows that fill no tile go through gemm.h; which ones depends on the rows' count alone.
#pragma once

#include "core/kernels/gemm.h"
#include "core/kernels/tiles.h"

#if defined(__AMX_BF16__) || defined(MTFA_EMULATE_AMX)

namespace mtfa {
namespace MTFA_ISA_NAMESPACE {

MTFA_INLINE bool fits_tiles(const Dense<Bf16>& args) { return args.depth % kTileInputs == 0 && !args.relu; }

// 16 or 32 rows by one panel.
template <bool kTwo>
MTFA_INLINE void dense_block(const Dense<Bf16>& args, const Bf16* panel, const float* bias, int row, float* out) {
  static_assert(kPanel == 32);
  constexpr ptrdiff_t kLine = 2 * kPanel * sizeof(Bf16);  // pairs of inputs
  const Bf16* in = args.in + row * args.in_stride;
  const ptrdiff_t in_bytes = args.in_stride * static_cast<ptrdiff_t>(sizeof(Bf16));
  const ptrdiff_t out_bytes = args.out_stride * static_cast<ptrdiff_t>(sizeof(float));
  if (bias) {
    tile_load<0>(bias, 0), tile_load<1>(bias + 16, 0);
    if constexpr (kTwo) tile_load<2>(bias, 0), tile_load<3>(bias + 16, 0);
  } else {
    tile_zero<0>(), tile_zero<1>();
    if constexpr (kTwo) tile_zero<2>(), tile_zero<3>();
  }
  for (int k = 0; k < args.depth; k += kTileInputs) {
    const Bf16* weights = panel + static_cast<ptrdiff_t>(k) * kPanel;
    tile_load<4>(in + k, in_bytes);
    tile_load<6>(weights, kLine);
    tile_multiply_add<0, 4, 6>();
    tile_load<7>(weights + kPanel, kLine);
    tile_multiply_add<1, 4, 7>();
    if constexpr (kTwo) {
      tile_load<5>(in + kTileRows16 * args.in_stride + k, in_bytes);
      tile_multiply_add<2, 5, 6>();
      tile_multiply_add<3, 5, 7>();
    }
  }
  tile_store<0>(out, out_bytes), tile_store<1>(out + 16, out_bytes);
  if constexpr (kTwo) {
    float* below = out + kTileRows16 * args.out_stride;
    tile_store<2>(below, out_bytes), tile_store<3>(below + 16, out_bytes);
  }
}

inline void dense_tiles(const Dense<Bf16>& args) {
  configure_tiles();
  for (int n = 0; n < args.columns; n += kPanel) {
    const Bf16* panel = static_cast<const Bf16*>(args.weights) + static_cast<ptrdiff_t>(n) * args.depth;
    const float* bias = args.bias ? args.bias + n : nullptr;
    int row = 0;
    for (; row + 2 * kTileRows16 <= args.rows; row += 2 * kTileRows16)
      dense_block<true>(args, panel, bias, row, args.out + row * args.out_stride + n);
    for (; row + kTileRows16 <= args.rows; row += kTileRows16)
      dense_block<false>(args, panel, bias, row, args.out + row * args.out_stride + n);
    gemm_panel<Bf16>(args.in + row * args.in_stride, args.in_stride, panel, args.rows - row, args.depth, bias, false,
                     args.out + row * args.out_stride + n, args.out_stride);
  }
  release_tiles();
}

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa

#endif
