#include "core/gru_training.h"

#include <algorithm>
#include <vector>

#include "core/kernels/gru_training.h"
#include "core/memory.h"
#include "core/pack.h"

namespace mtfa {

namespace {

constexpr int kGates = 3;
constexpr int64_t kMostClips = 24;  // side by side: what they keep between steps stays in the first-level cache

// One direction's weight_hh (3 * hidden, hidden), or its transpose, each gate padded, in panels.
AlignedArray<float> pack(const float* weights, int hidden, int padded, bool transposed, int panel) {
  std::vector<float> matrix(static_cast<size_t>(kGates) * padded * padded);
  for (int gate = 0; gate < kGates; ++gate) {
    for (int unit = 0; unit < hidden; ++unit) {
      for (int k = 0; k < hidden; ++k) {
        const size_t row = static_cast<size_t>(gate) * padded + unit;
        matrix[transposed ? k * static_cast<size_t>(kGates * padded) + row : row * padded + k] = *weights++;
      }
    }
  }
  const int rows = transposed ? padded : kGates * padded, columns = transposed ? kGates * padded : padded;
  return pack_dense<float>(matrix, rows, columns, rows, panel);
}

// Calls run(shape, first clip, scratch) for groups of clips in each direction, as many as keep every thread busy.
template <class Run>
void for_each_group(const GruTraining& training, int padded, ThreadPool& pool, Run run) {
  const int64_t wanted = std::max<int64_t>((pool.size() + 1) / 2, (training.batch + kMostClips - 1) / kMostClips);
  const int64_t groups = std::min(training.batch, wanted);
  const auto scratch_size = MTFA_SELECT(training.isa, gru_training_scratch);
  pool.run(static_cast<int>(2 * groups), [&](int task) {
    const int64_t first = task / 2 * training.batch / groups, last = (task / 2 + 1) * training.batch / groups;
    const GruTrainingShape shape = {training.frames, static_cast<int>(last - first), training.hidden, padded, task % 2};
    AlignedArray<float> scratch(scratch_size(shape));
    run(shape, first, scratch.data());
  });
}

}  // namespace

void GruTraining::forward(const float* projected, const float* weights, const float* bias_new, float* states,
                          float* gates, ThreadPool& pool) const {
  if (batch < 1) return;
  const int panel = MTFA_SELECT(isa, gru_training_panel)(), padded = round_up(hidden, panel);
  AlignedArray<float> packed[2], bias[2];
  for (int direction = 0; direction < 2; ++direction) {
    const ptrdiff_t size = static_cast<ptrdiff_t>(kGates) * hidden * hidden;
    packed[direction] = pack(weights + direction * size, hidden, padded, true, panel);
    bias[direction] = AlignedArray<float>(static_cast<size_t>(kGates) * padded);
    std::copy_n(bias_new + direction * hidden, hidden, bias[direction].data() + 2 * padded);
  }
  const auto kernel = MTFA_SELECT(isa, gru_training_forward);
  for_each_group(*this, padded, pool, [&](const GruTrainingShape& shape, int64_t first, float* scratch) {
    const int64_t at = first * frames * 2 * hidden;
    kernel({shape, packed[shape.direction].data(), bias[shape.direction].data(), projected + 3 * at, states + at,
            gates + 4 * at},
           scratch);
  });
}

void GruTraining::backward(const float* d_states, const float* states, const float* gates, const float* weights,
                           float* d_projected, float* d_new, ThreadPool& pool) const {
  if (batch < 1) return;
  const int panel = MTFA_SELECT(isa, gru_training_panel)(), padded = round_up(hidden, panel);
  AlignedArray<float> packed[2];
  for (int direction = 0; direction < 2; ++direction) {
    const ptrdiff_t size = static_cast<ptrdiff_t>(kGates) * hidden * hidden;
    packed[direction] = pack(weights + direction * size, hidden, padded, false, panel);
  }
  const auto kernel = MTFA_SELECT(isa, gru_training_backward);
  for_each_group(*this, padded, pool, [&](const GruTrainingShape& shape, int64_t first, float* scratch) {
    const int64_t at = first * frames * 2 * hidden;
    kernel({shape, packed[shape.direction].data(), d_states + at, states + at, gates + 4 * at, d_projected + 3 * at,
            d_new + at},
           scratch);
  });
}

}  // namespace mtfa
