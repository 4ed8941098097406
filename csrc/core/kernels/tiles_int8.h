// The products of a group of blocks: on AMX tiles where there are some, else by vectors (gemm_int8.h).
#pragma once

#include "core/kernels/gemm_int8.h"
#include "core/kernels/tiles.h"

namespace mtfa {
namespace MTFA_ISA_NAMESPACE {

#if defined(__AMX_BF16__) || defined(MTFA_EMULATE_AMX)

constexpr int kInt8Blocks = kTileRows16, kInt8Depth = kTileBytes;

MTFA_INLINE void configure_int8() { configure_tiles(); }
MTFA_INLINE void release_int8() { release_tiles(); }

// Always whole tiles: rows beyond the group's blocks hold what was there before, and nobody reads their sums. Where the
// rows are shorter than a tile's, it also reads the row behind, whose weights are zeros.
MTFA_INLINE void int8_products(int, const uint8_t* x, ptrdiff_t x_stride, const int8_t* panel, const int32_t* starts,
                               int depth, int32_t* sums) {
  static_assert(kPanel == 32, "two tiles of weights are a panel");
  constexpr ptrdiff_t kPanelBytes = 4 * kPanel;
  // The same row of starts in every row of a tile.
  tile_load<0>(starts, 0);
  tile_load<1>(starts + 16, 0);
  for (int k = 0; k < depth; k += kTileBytes) {
    tile_load<4>(x + k, x_stride);
    tile_load<6>(panel + k / 4 * kPanelBytes, kPanelBytes);
    tile_load<7>(panel + k / 4 * kPanelBytes + kTileBytes, kPanelBytes);
    tile_multiply_add_bytes<0, 4, 6>();
    tile_multiply_add_bytes<1, 4, 7>();
  }
  tile_store<0>(reinterpret_cast<float*>(sums), kPanelBytes);
  tile_store<1>(reinterpret_cast<float*>(sums + 16), kPanelBytes);
}

#else

constexpr int kInt8Blocks = 8, kInt8Depth = 4;

MTFA_INLINE void configure_int8() {}
MTFA_INLINE void release_int8() {}
MTFA_INLINE void int8_products(int blocks, const uint8_t* x, ptrdiff_t x_stride, const int8_t* panel,
                               const int32_t* starts, int depth, int32_t* sums) {
  int8_rows(blocks, x, x_stride, panel, starts, depth, sums);
}

#endif

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa
