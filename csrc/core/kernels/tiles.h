// The matrix tiles of AMX: eight tiles of 16 rows by 64 bytes, and their products. MTFA_EMULATE_AMX puts plain loops in
// their place, so that the code above them can be checked on a machine without AMX.
#pragma once

#if defined(__AMX_BF16__) || defined(MTFA_EMULATE_AMX)

#include "core/kernels/simd.h"

namespace mtfa {
namespace MTFA_ISA_NAMESPACE {

constexpr int kTileRows16 = 16;  // rows of every tile
constexpr int kTileBytes = 64;   // bytes of every row
constexpr int kTileInputs = 32;  // bf16 values of one row of A

#ifdef MTFA_EMULATE_AMX

inline float (*emulated_tiles()) [kTileRows16][kTileBytes / 4] {
  static thread_local float tiles[8][kTileRows16][kTileBytes / 4];
  return tiles;
}

MTFA_INLINE void configure_tiles() {}
MTFA_INLINE void release_tiles() {}
template <int kTile>
inline void tile_zero() {
  std::memset(emulated_tiles()[kTile], 0, sizeof(float) * kTileRows16 * kTileBytes / 4);
}
template <int kTile>
inline void tile_load(const void* from, ptrdiff_t stride) {
  for (int r = 0; r < kTileRows16; ++r) {
    std::memcpy(emulated_tiles()[kTile][r], static_cast<const char*>(from) + r * stride, kTileBytes);
  }
}
template <int kTile>
inline void tile_store(float* to, ptrdiff_t stride) {
  for (int r = 0; r < kTileRows16; ++r) {
    std::memcpy(reinterpret_cast<char*>(to) + r * stride, emulated_tiles()[kTile][r], kTileBytes);
  }
}
template <int kSum, int kA, int kB>
inline void tile_multiply_add() {
  auto* tiles = emulated_tiles();
  auto value = [&](int tile, int row, int i) {
    uint16_t half;
    std::memcpy(&half, reinterpret_cast<const char*>(tiles[tile][row]) + 2 * i, 2);
    const uint32_t bits = static_cast<uint32_t>(half) << 16;
    float out;
    std::memcpy(&out, &bits, 4);
    return out;
  };
  for (int m = 0; m < kTileRows16; ++m) {
    for (int n = 0; n < kTileBytes / 4; ++n) {
      for (int k = 0; k < 16; ++k) {
        tiles[kSum][m][n] +=
            value(kA, m, 2 * k) * value(kB, k, 2 * n) + value(kA, m, 2 * k + 1) * value(kB, k, 2 * n + 1);
      }
    }
  }
}
// Sums of 32 bits; bytes of A without sign, of B with one.
template <int kSum, int kA, int kB>
inline void tile_multiply_add_bytes() {
  auto* tiles = emulated_tiles();
  for (int m = 0; m < kTileRows16; ++m) {
    for (int n = 0; n < kTileBytes / 4; ++n) {
      int32_t sum;
      std::memcpy(&sum, &tiles[kSum][m][n], sizeof sum);
      for (int k = 0; k < kTileBytes; ++k) {
        const auto* a = reinterpret_cast<const uint8_t*>(tiles[kA][m]);
        const auto* b = reinterpret_cast<const int8_t*>(tiles[kB][k / 4]);
        sum += a[k] * b[4 * n + k % 4];
      }
      std::memcpy(&tiles[kSum][m][n], &sum, sizeof sum);
    }
  }
}

#else

// The tiles' shapes are state of the thread: every kernel that uses tiles sets them first.
MTFA_INLINE void configure_tiles() {
  struct alignas(64) Config {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};
  } config;
  for (int i = 0; i < 8; ++i) config.bytes[i] = kTileBytes, config.rows[i] = kTileRows16;
  // Not GCC's intrinsic, which claims to read eight bytes only: the rest could then go unwritten.
  asm volatile("ldtilecfg %0" ::"m"(config));
}
// Without tiles in use the system saves less when it switches threads.
MTFA_INLINE void release_tiles() { _tile_release(); }
// Assembly, because GCC's intrinsics paste the tile's number as text and so take no template argument.
template <int kTile>
MTFA_INLINE void tile_zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
}
template <int kTile>
MTFA_INLINE void tile_load(const void* from, ptrdiff_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(kTile) : "memory");
}
template <int kTile>
MTFA_INLINE void tile_store(float* to, ptrdiff_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(kTile) : "memory");
}
template <int kSum, int kA, int kB>
MTFA_INLINE void tile_multiply_add() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kA), "i"(kB));
}
template <int kSum, int kA, int kB>
MTFA_INLINE void tile_multiply_add_bytes() {
  asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kA), "i"(kB));
}

#endif

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa

#endif
