#include "core/kernels/gru_training.h"

#include <algorithm>

#include "core/kernels/gemm.h"

namespace mtfa {
namespace MTFA_ISA_NAMESPACE {

namespace {

// Vectors at the end of a gate: what lies behind it is another gate, or nobody's memory.
MTFA_INLINE Vec load_part(const float* p, int count) {
  if (count >= kWidth) return load(p);
  Vec v = {};
  std::memcpy(&v, p, sizeof(float) * count);
  return v;
}

MTFA_INLINE void store_part(float* p, Vec v, int count) {
  if (count >= kWidth) return store(p, v);
  std::memcpy(p, &v, sizeof(float) * count);
}

// out (rows, columns) = in (rows, depth) * weights + bias, weights as of pack_dense with `depth` rows.
MTFA_INLINE void multiply(const float* in, const float* weights, const float* bias, float* out, int rows, int depth,
                          int columns) {
  for (int c = 0; c < columns; c += kPanel) {
    gemm_panel<float>(in, depth, weights + static_cast<ptrdiff_t>(c) * depth, rows, depth, bias ? bias + c : nullptr,
                      false, out + c, columns);
  }
}

// Number of `step`'s frame among those of clip `clip`, for steps in the order of the direction.
MTFA_INLINE int64_t frame(const GruTrainingShape& s, int clip, int64_t step) {
  return clip * s.frames + (s.direction ? s.frames - 1 - step : step);
}

}  // namespace

int gru_training_panel() { return kPanel; }

int64_t gru_training_scratch(const GruTrainingShape& s) { return int64_t{5} * s.clips * s.padded; }

void gru_training_forward(const GruTrainingForward& run, float* scratch) {
  const GruTrainingShape& s = run.shape;
  const int hidden = s.hidden, padded = s.padded;
  float* const states = scratch;  // (clips, padded), the padding stays 0: its weights, bias and input are
  float* const recurrent = scratch + static_cast<ptrdiff_t>(s.clips) * padded;
  std::fill_n(states, static_cast<ptrdiff_t>(s.clips) * padded, 0.0f);
  for (int64_t step = 0; step < s.frames; ++step) {
    multiply(states, run.weights, run.bias, recurrent, s.clips, padded, 3 * padded);
    for (int clip = 0; clip < s.clips; ++clip) {
      const int64_t at = 2 * frame(s, clip, step) + s.direction;
      const float* const projected = run.projected + at * 3 * hidden;
      const float* const product = recurrent + static_cast<ptrdiff_t>(clip) * 3 * padded;
      float* const state = states + static_cast<ptrdiff_t>(clip) * padded;
      float* const gates = run.gates + at * 4 * hidden;
      for (int u = 0; u < hidden; u += kWidth) {
        const int left = hidden - u;
        const Vec reset = sigmoid(load_part(projected + u, left) + load(product + u));
        const Vec update = sigmoid(load_part(projected + hidden + u, left) + load(product + padded + u));
        const Vec candidate = load(product + 2 * padded + u);
        const Vec fresh = tanh(load_part(projected + 2 * hidden + u, left) + reset * candidate);
        const Vec next = fresh + update * (load(state + u) - fresh);
        const Vec kept[] = {reset, update, fresh, candidate};
        for (int gate = 0; gate < 4; ++gate) store_part(gates + gate * hidden + u, kept[gate], left);
        store_part(run.states + at * hidden + u, next, left);
        store_part(state + u, next, left);
      }
    }
  }
}

void gru_training_backward(const GruTrainingBackward& run, float* scratch) {
  const GruTrainingShape& s = run.shape;
  const int hidden = s.hidden, padded = s.padded;
  const ptrdiff_t values = static_cast<ptrdiff_t>(s.clips) * padded;
  float* const carried = scratch;             // (clips, padded): what the later steps' gates say of this state,
  float* const kept = scratch + values;       // (clips, padded): and what z kept of it
  float* const inner = scratch + 2 * values;  // (clips, 3, padded): of W_hr h, W_hz h, W_hn h + b_hn
  std::fill_n(scratch, 5 * values, 0.0f);
  for (int64_t step = s.frames - 1; step >= 0; --step) {
    for (int clip = 0; clip < s.clips; ++clip) {
      const int64_t at = 2 * frame(s, clip, step) + s.direction;
      const float* const gates = run.gates + at * 4 * hidden;
      const float* const before =
          step == 0 ? nullptr : run.states + (2 * frame(s, clip, step - 1) + s.direction) * hidden;
      float* const d_projected = run.d_projected + at * 3 * hidden;
      const ptrdiff_t row = static_cast<ptrdiff_t>(clip) * padded;
      for (int u = 0; u < hidden; u += kWidth) {
        const int left = hidden - u;
        const Vec reset = load_part(gates + u, left), update = load_part(gates + hidden + u, left);
        const Vec fresh = load_part(gates + 2 * hidden + u, left), candidate = load_part(gates + 3 * hidden + u, left);
        const Vec state = before ? load_part(before + u, left) : Vec{};
        const Vec total =
            load_part(run.d_states + at * hidden + u, left) + load(carried + row + u) + load(kept + row + u);
        const Vec d_fresh = total * (1.0f - update) * (1.0f - fresh * fresh);
        const Vec d_reset = d_fresh * candidate * reset * (1.0f - reset);
        const Vec d_update = total * (state - fresh) * update * (1.0f - update);
        const Vec d_candidate = d_fresh * reset;
        store_part(d_projected + u, d_reset, left);
        store_part(d_projected + hidden + u, d_update, left);
        store_part(d_projected + 2 * hidden + u, d_fresh, left);
        store_part(run.d_new + at * hidden + u, d_candidate, left);
        store(kept + row + u, update * total);
        store(inner + 3 * row + u, d_reset);
        store(inner + 3 * row + padded + u, d_update);
        store(inner + 3 * row + 2 * padded + u, d_candidate);
      }
    }
    if (step > 0) multiply(inner, run.weights, nullptr, carried, s.clips, 3 * padded, padded);
  }
}

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa
