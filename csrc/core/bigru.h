// Bidirectional GRU layers: how their weights are packed, and a whole stack of them over clips.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/kernels/kernels.h"
#include "core/memory.h"
#include "core/thread_pool.h"

namespace mtfa {

// The recurrent weights of one direction.
struct GruDirection {
  AlignedArray<float> hidden, bias_new;

  // weight_hh (3 * hidden, hidden), bias_new = b_hn (hidden), both torch's.
  static GruDirection pack(const float* weight_hh, const float* bias_new, int hidden, const Kernels& kernels);
  // Runs over `frames` rows: gates (6 * padded hidden) hold both directions' projected inputs, states (2 * padded
  // hidden) take both directions' results.
  // From `initial` (padded hidden) on where it is given, after `steps_before` steps (kernels.h).
  void run(int direction, float* const* gates, float* const* states, int64_t frames, int padded, const Kernels& kernels,
           const float* initial = nullptr, int64_t steps_before = 0) const;
};

// Both directions' input projections of one layer as one matrix (depth, 6 * padded hidden).
struct GruInput {
  AlignedArray<float> weights, bias;
  int depth = 0, columns = 0;

  // weight[direction] (3 * hidden, inputs), bias[direction] (3 * hidden). With `from_gru` the rows multiplied are
  // states of the layer before, in which each direction's part is padded.
  static GruInput pack(const float* const weight[2], const float* const bias[2], int inputs, int hidden, bool from_gru,
                       const Kernels& kernels);
  // out (count, columns) = in (count, depth) * weights + bias, rows of both one after another.
  void rows(const float* in, float* out, int count, const Kernels& kernels) const;
};

// torch.nn.GRU's four tensors of one direction of one layer.
struct GruTensors {
  const float *weight_ih, *weight_hh, *bias_ih, *bias_hh;
};

// torch.nn.GRU(inputs, hidden, layers, bidirectional=True, batch_first=True) from zero states. Immutable: any number
// of threads may use one. Results do not depend on the number of threads, nor on the other clips of a batch.
class BiGru {
 public:
  BiGru(const std::vector<std::array<GruTensors, 2>>& layers, int inputs, int hidden, const Kernels& kernels);
  int inputs() const { return inputs_; }
  int hidden() const { return hidden_; }
  int layers() const { return static_cast<int>(layers_.size()); }

  // x (batch, frames >= 1, inputs) -> out (batch, frames, 2 * hidden), last (2 * layers, batch, hidden).
  void run(const float* x, int64_t batch, int64_t frames, float* out, float* last, ThreadPool& pool) const;

 private:
  struct Layer {
    GruInput input;
    GruDirection directions[2];
  };
  int inputs_, hidden_, padded_;
  const Kernels& kernels_;
  std::vector<Layer> layers_;
};

}  // namespace mtfa
