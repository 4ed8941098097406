// 3x3 convolution on AMX tiles: a direct implicit product, since the tiles make multiplications cheaper than Winograd's
// transforms. A block is 2 rows x 16 pixels x 32 outputs in four accumulator tiles; each tap and 32 inputs load two
// tiles of pixels and two of weights for four products.
//
// 32 outputs' weights are 36 kB for 64 channels, and a block touches 17 kB more: together a little more than the
// first-level cache. So every other block goes through its products backwards and begins with what the last one used
// last. Tiles can only leave through memory; the stored sums of a block are finished (bias, residual, ReLU, rounding)
// between the products of the next one, so that the vector units work while the tile unit does.
#pragma once

#include "core/kernels/gemm.h"
#include "core/kernels/tiles.h"

#if defined(__AMX_BF16__) || defined(MTFA_EMULATE_AMX)

namespace mtfa {
namespace MTFA_ISA_NAMESPACE {

constexpr int kBlockPixels = 16, kBlockOutputs = 32;

// The sums of one block on their way out: (2 rows, 2 tiles, 16 pixels, 16 outputs).
struct FinishedBlock {
  const float* sums = nullptr;
  int x = 0, n = 0;

  // One pixel of one row; `i` counts the block's 32.
  MTFA_INLINE void finish(const ConvRows<Bf16>& args, int i) const {
    const int row = i / kBlockPixels, pixel = i % kBlockPixels;
    if (!sums || !args.out[row] || x + pixel >= args.width) return;
    const ptrdiff_t at = static_cast<ptrdiff_t>(x + pixel + 1) * args.channels + n;
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      Vec value = load(sums + (row * 2 + half) * 256 + pixel * 16) + load(args.bias + n + half * 16);
      if (args.residual[row]) value += load(args.residual[row] + at + half * 16);
      store(args.out[row] + at + half * 16, args.relu ? relu(value) : value);
    }
  }
};

inline void conv3x3_tiles(const ConvRows<Bf16>& args) {
  const int channels = args.channels;
  const ptrdiff_t stride = static_cast<ptrdiff_t>(channels) * sizeof(Bf16);
  float* sums = static_cast<float*>(scratch(4 * kTileRows16 * kTileBytes));
  const int slices = channels / kTileInputs;
  constexpr ptrdiff_t kTilePair = 2 * kTileRows16 * kTileInputs;
  FinishedBlock previous;
  bool backwards = false;
  configure_tiles();
  for (int n = 0; n < channels; n += kBlockOutputs) {
    const Bf16* weights = static_cast<const Bf16*>(args.weights) + static_cast<ptrdiff_t>(n) * 9 * channels;
    for (int x = 0; x < args.width; x += kBlockPixels, backwards = !backwards) {
      tile_zero<0>(), tile_zero<1>(), tile_zero<2>(), tile_zero<3>();
      int finished = 0;
      for (int i = 0; i < 9; ++i) {
        const int tap = backwards ? 8 - i : i;
        const ptrdiff_t at = static_cast<ptrdiff_t>(x + tap % 3) * channels;
        const Bf16 *top = args.in[tap / 3] + at, *bottom = args.in[tap / 3 + 1] + at;
        for (int j = 0; j < slices; ++j) {
          const int slice = backwards ? slices - 1 - j : j, k = slice * kTileInputs;
          const Bf16* pair = weights + (tap * slices + slice) * kTilePair;
          tile_load<4>(top + k, stride);
          tile_load<6>(pair, kTileBytes);
          tile_multiply_add<0, 4, 6>();
          tile_load<7>(pair + kTilePair / 2, kTileBytes);
          tile_multiply_add<1, 4, 7>();
          tile_load<5>(bottom + k, stride);
          tile_multiply_add<2, 5, 6>();
          tile_multiply_add<3, 5, 7>();
          for (int pixel = 0; pixel < 4 && finished < 2 * kBlockPixels; ++pixel) previous.finish(args, finished++);
        }
      }
      while (finished < 2 * kBlockPixels) previous.finish(args, finished++);  // before its sums are overwritten
      tile_store<0>(sums, kTileBytes), tile_store<1>(sums + 256, kTileBytes);
      tile_store<2>(sums + 512, kTileBytes), tile_store<3>(sums + 768, kTileBytes);
      previous = {sums, x, n};
    }
  }
  release_tiles();
  for (int i = 0; i < 2 * kBlockPixels; ++i) previous.finish(args, i);
}

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa

#endif
