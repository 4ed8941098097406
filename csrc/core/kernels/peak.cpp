// Chains of multiply-adds without a load between them, as many side by side as hide the latency of one.
#include "core/kernels/peak.h"

#include "core/kernels/gemm.h"
#include "core/kernels/tiles.h"

namespace mtfa {
namespace MTFA_ISA_NAMESPACE {

namespace {

constexpr int kChains = kRegisters == 32 ? 24 : 12;

// `factors` and `starts` come through volatile pointers: chains that began alike would be computed once.
template <class T>
MTFA_INLINE double run_chains(int64_t steps, const T* factors, const float* starts) {
  using S = Step<T>;
  const auto x = S::broadcast(factors);
  const typename S::Weights weights = S::weights(factors);
  Vec sum[kChains];
#pragma GCC unroll 24
  for (int i = 0; i < kChains; ++i) sum[i] = load(starts + i * kWidth);
  for (int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 24
    for (int i = 0; i < kChains; ++i) sum[i] = S::multiply_add(sum[i], x, weights);
  }
  Vec total{};
#pragma GCC unroll 24
  for (int i = 0; i < kChains; ++i) total += sum[i];
  volatile float sink = total[0];
  (void)sink;
  return 2.0 * S::values * kWidth * kChains * static_cast<double>(steps);
}

}  // namespace

double peak_fp32(int64_t steps) {
  alignas(64) float starts[kChains * kWidth] = {}, factors[kWidth] = {};
  float* volatile hidden = starts, * volatile hidden_factors = factors;
  return run_chains<float>(steps, hidden_factors, hidden);
}

#if defined(__AMX_BF16__)
double peak_bf16(int64_t steps) {
  alignas(64) static const Bf16 zeros[kTileRows16 * kTileInputs] = {};
  alignas(64) float sums[kTileRows16 * kTileBytes / 4];
  configure_tiles();
  tile_zero<0>(), tile_zero<1>(), tile_zero<2>(), tile_zero<3>();
  tile_load<4>(zeros, kTileBytes), tile_load<5>(zeros, kTileBytes);
  tile_load<6>(zeros, kTileBytes), tile_load<7>(zeros, kTileBytes);
  for (int64_t step = 0; step < steps; ++step) {
    tile_multiply_add<0, 4, 6>(), tile_multiply_add<1, 4, 7>();
    tile_multiply_add<2, 5, 6>(), tile_multiply_add<3, 5, 7>();
  }
  tile_store<0>(sums, kTileBytes);
  release_tiles();
  return 4.0 * 2.0 * kTileRows16 * (kTileBytes / 4) * kTileInputs * static_cast<double>(steps);
}
#elif defined(MTFA_HAS_BF16)
double peak_bf16(int64_t steps) {
  alignas(64) float starts[kChains * kWidth] = {};
  alignas(64) Bf16 factors[2 * kWidth] = {};
  float* volatile hidden = starts;
  Bf16* volatile hidden_factors = factors;
  return run_chains<Bf16>(steps, hidden_factors, hidden);
}
#else
double peak_bf16(int64_t) { return 0; }
#endif

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa
