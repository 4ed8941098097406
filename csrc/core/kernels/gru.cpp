// The GRU recurrence: one direction of one layer, step after step on one thread.
//
// A step is 3 * hidden dot products with the previous state. A block of units keeps the sums of its three
// gates in registers while the state is broadcast value by value against weights that stream from the
// caches. Every other step goes through them backwards: they are larger than the first-level cache, which would
// otherwise have dropped each weight just before its next use.
#include "core/kernels/gemm.h"
#include "core/kernels/rows.h"

namespace mtfa {
namespace MTFA_ISA_NAMESPACE {

namespace {

constexpr int kUnitVectors = 4;
constexpr int kBlock = kUnitVectors * kWidth;

// Units u .. u + kBlock of the next state. `weights` is this block's (hidden, 3, kBlock).
MTFA_INLINE void step_block(const float* weights, const float* bias_new, const float* gates, const float* state,
                            int hidden, int u, bool backwards, float* next) {
  Vec sum[3][kUnitVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kUnitVectors; ++v) {
    sum[0][v] = load(gates + u + v * kWidth);
    sum[1][v] = load(gates + hidden + u + v * kWidth);
    sum[2][v] = load(bias_new + u + v * kWidth);
  }
  for (int i = 0; i < hidden; ++i) {
    const int k = backwards ? hidden - 1 - i : i;
    const Vec h = splat(state[k]);
    const float* w = weights + static_cast<ptrdiff_t>(k) * 3 * kBlock;
#pragma GCC unroll 3
    for (int gate = 0; gate < 3; ++gate) {
#pragma GCC unroll 4
      for (int v = 0; v < kUnitVectors; ++v) sum[gate][v] += h * load(w + gate * kBlock + v * kWidth);
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < kUnitVectors; ++v) {
    const Vec reset = sigmoid(sum[0][v]), update = sigmoid(sum[1][v]);
    const Vec candidate = tanh(load(gates + 2 * hidden + u + v * kWidth) + reset * sum[2][v]);
    store(next + u + v * kWidth, candidate + update * (load(state + u + v * kWidth) - candidate));
  }
}

}  // namespace

void gru_run(const GruRun& run) {
  const int hidden = run.hidden;
  // The initial state, then each step reads the previous step's output in place.
  float* zeros = static_cast<float*>(scratch(sizeof(float) * hidden));
  std::memset(zeros, 0, sizeof(float) * hidden);
  const float* state = run.initial ? run.initial : zeros;
  for (int64_t i = 0; i < run.frames; ++i) {
    const int64_t t = run.reverse ? run.frames - 1 - i : i;
    const float* gates = run.gates[t] + run.gates_offset;
    float* next = run.states[t] + run.states_offset;
    const bool backwards = (run.steps_before + i) % 2;
    for (int done = 0; done < hidden; done += kBlock) {
      const int u = backwards ? hidden - kBlock - done : done;
      step_block(run.weights + static_cast<ptrdiff_t>(u) * 3 * hidden, run.bias_new, gates, state, hidden, u, backwards,
                 next);
    }
    state = next;
  }
}

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa
