// The one matrix product of the engine: a few rows of A, broadcast value by value, times a panel of B
// that stands two vectors wide. Every result is one chain of fused multiply-adds over k in order, or the sum in order
// of chains of `chain` values each, so it does not depend on how rows are grouped into tiles. Rounding grows with the
// partial sums: one chain over the 1024 inputs of the GRU errs four times as much as chains of 64.
#pragma once

#include "core/kernels/simd.h"

namespace mtfa {
namespace MTFA_ISA_NAMESPACE {

constexpr int kPanelVectors = 2;
constexpr int kPanel = kPanelVectors * kWidth;
// Rows of a tile: 12 x 2 accumulators of 32 registers, 6 x 2 of 16; the rest holds weights and one broadcast.
constexpr int kTileRows = kRegisters == 32 ? 12 : 6;

// How one k-step multiplies: one float, or a pair of bf16 whose products are summed in float.
template <class T>
struct Step;

template <>
struct Step<float> {
  static constexpr int values = 1;
  using Weights = Vec;
  MTFA_INLINE static Weights weights(const float* p) { return load(p); }
  MTFA_INLINE static Vec broadcast(const float* p) { return splat(*p); }
  MTFA_INLINE static Vec multiply_add(Vec sum, Vec x, Weights w) { return sum + x * w; }
};

#if defined(__AVX512BF16__)
template <>
struct Step<Bf16> {
  static constexpr int values = 2;
  using Weights = __m512i;
  MTFA_INLINE static Weights weights(const Bf16* p) { return _mm512_loadu_si512(p); }
  MTFA_INLINE static __m512i broadcast(const Bf16* p) {
    int32_t pair;
    std::memcpy(&pair, p, sizeof pair);
    return _mm512_set1_epi32(pair);
  }
  MTFA_INLINE static Vec multiply_add(Vec sum, __m512i x, Weights w) {
    return reinterpret_cast<Vec>(
        _mm512_dpbf16_ps(reinterpret_cast<__m512>(sum), reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(w)));
  }
};
#elif defined(MTFA_HAS_BF16)
template <>
struct Step<Bf16> {
  static constexpr int values = 2;
  using Weights = bfloat16x8_t;
  MTFA_INLINE static Weights weights(const Bf16* p) {
    Weights w;
    std::memcpy(&w, p, sizeof w);
    return w;
  }
  // One pair in the low lanes: the product takes it by its lane, and nothing has to be copied over a register.
  MTFA_INLINE static bfloat16x4_t broadcast(const Bf16* p) {
    uint32_t pair;
    std::memcpy(&pair, p, sizeof pair);
    return vcreate_bf16(pair);
  }
  MTFA_INLINE static Vec multiply_add(Vec sum, bfloat16x4_t x, Weights w) {
    return reinterpret_cast<Vec>(vbfdotq_lane_f32(reinterpret_cast<float32x4_t>(sum), w, x, 0));
  }
};
#endif

// c (kRows, kPanel) = a (kRows, depth) * panel (+ bias), [relu].
template <int kRows, bool kChains, class T>
MTFA_INLINE void gemm_tile(const T* a, ptrdiff_t a_stride, const T* panel, int depth, const float* bias, bool clamp,
                           float* c, ptrdiff_t c_stride, int chain) {
  using S = Step<T>;
  // Four rows share a base pointer, so that twelve rows need three and no address is spilled.
  const T* base[(kRows + 3) / 4];
#pragma GCC unroll 4
  for (int i = 0; i < (kRows + 3) / 4; ++i) base[i] = a + 4 * i * a_stride;
  int k = 0;
  do {
    const bool first = !kChains || k == 0;
    const int end = kChains && depth - k > chain ? k + chain : depth;
    Vec sum[kRows][kPanelVectors] = {};
    for (; k < end; k += S::values) {
      const T* w = panel + static_cast<ptrdiff_t>(k) * kPanel;
      typename S::Weights weights[kPanelVectors];
      for (int v = 0; v < kPanelVectors; ++v) weights[v] = S::weights(w + v * kWidth * S::values);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        const auto x = S::broadcast(base[r / 4] + (r % 4) * a_stride + k);
        for (int v = 0; v < kPanelVectors; ++v) sum[r][v] = S::multiply_add(sum[r][v], x, weights[v]);
      }
    }
    const bool last = clamp && end == depth;
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kPanelVectors; ++v) {
        float* const to = c + r * c_stride + v * kWidth;
        if (!first) sum[r][v] += load(to);
        if (first && bias) sum[r][v] += load(bias + v * kWidth);
        store(to, last ? relu(sum[r][v]) : sum[r][v]);
      }
    }
  } while (kChains && k < depth);
}

// gemm_tile for `rows` from 1 to kTileRows.
template <class T, bool kChains, int kRows = kTileRows>
MTFA_INLINE void gemm_rows(int rows, const T* a, ptrdiff_t a_stride, const T* panel, int depth, const float* bias,
                           bool clamp, float* c, ptrdiff_t c_stride, int chain) {
  if constexpr (kRows > 0) {
    if (rows == kRows)
      gemm_tile<kRows, kChains, T>(a, a_stride, panel, depth, bias, clamp, c, c_stride, chain);
    else
      gemm_rows<T, kChains, kRows - 1>(rows, a, a_stride, panel, depth, bias, clamp, c, c_stride, chain);
  }
}

// c (rows, kPanel) of any number of rows, in tiles as even as can be: 32 rows are 11, 11 and 10. A tile of a few rows
// has too few sums to hide the multiplier's latency.
template <class T, bool kChains = false>
MTFA_INLINE void gemm_panel(const T* a, ptrdiff_t a_stride, const T* panel, int rows, int depth, const float* bias,
                            bool clamp, float* c, ptrdiff_t c_stride, int chain = 0) {
  int tiles = (rows + kTileRows - 1) / kTileRows;
  for (int done = 0; done < rows; --tiles) {
    const int height = (rows - done + tiles - 1) / tiles;
    gemm_rows<T, kChains>(height, a + done * a_stride, a_stride, panel, depth, bias, clamp, c + done * c_stride,
                          c_stride, chain);
    done += height;
  }
}

// Scratch memory of the calling thread, aligned to a cache line, kept between calls: one for each slot.
template <int kSlot = 0>
MTFA_INLINE void* scratch(size_t bytes) {
  struct Buffer {
    char* data = nullptr;
    size_t size = 0;
    ~Buffer() { ::operator delete[](data, std::align_val_t(64)); }
  };
  static thread_local Buffer buffer;
  if (buffer.size < bytes) {
    ::operator delete[](buffer.data, std::align_val_t(64));
    buffer.data = nullptr, buffer.size = 0;
    buffer.data = static_cast<char*>(::operator new[](bytes, std::align_val_t(64)));
    buffer.size = bytes;
  }
  return buffer.data;
}

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa
