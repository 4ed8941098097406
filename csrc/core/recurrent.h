// The recurrent part: two bidirectional GRU layers and the head over stored frames.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/bigru.h"
#include "core/kernels/kernels.h"
#include "core/memory.h"
#include "core/spill.h"
#include "core/thread_pool.h"
#include "core/weights.h"

namespace mtfa {

// Rows of `columns` floats, any number of them, in blocks that never move.
class FrameStore {
 public:
  static constexpr int64_t kBlockFrames = 1024;
  explicit FrameStore(int columns) : columns_(columns) {}
  // Row of `frame`; blocks up to it are made as needed. Rows of one block stand one after another.
  float* row(int64_t frame);
  int columns() const { return columns_; }
  void keep_blocks(size_t most) {
    if (blocks_.size() > most) blocks_.resize(most);
  }

 private:
  int columns_;
  std::vector<AlignedArray<float>> blocks_;
};

// Packed weights of everything after the first layer's input projection; immutable.
class RecurrentWeights {
 public:
  RecurrentWeights(const NetworkShape& shape, const Tensors& tensors, const Kernels& kernels);

  // The second layer's input projection: states (rows, 2 * hidden) -> gates (rows, 6 * hidden).
  void project(const float* states, float* gates, int64_t rows, ThreadPool& pool) const;
  // The last layer's states (rows, 2 * hidden) -> probabilities (rows, classes).
  void head(const float* states, float* out, int64_t rows, ThreadPool& pool) const;

  const NetworkShape shape;
  const Kernels& kernels;
  int hidden;                     // padded units
  GruDirection directions[2][2];  // [layer][direction]
  GruInput input1;                // the second layer's input projection
  AlignedArray<float> head_hidden, head_hidden_bias, head_output, head_output_bias;
  int head_columns;  // padded
};

class Recurrent {
 public:
  explicit Recurrent(std::shared_ptr<const RecurrentWeights> weights);
  // Of the next recording; without a limit all frames stay in memory. At least two blocks of frames do.
  void limit(MemoryLimit limit);
  // Where the first layer's projected input of `frame` goes: (6 * hidden), a block of frames contiguous. Frames come in
  // order. Throws SpillError.
  float* projected(int64_t frame);
  // Runs over `frames` projected frames; writes the probabilities (count, classes) of the first `count`.
  void run(int64_t frames, int64_t count, float* out, ThreadPool& pool);
  // After run(): what the last layer made of `frame` in one direction, (hidden).
  const float* state(int64_t frame, int direction) { return states_.row(frame) + direction * weights_->hidden; }
  // Gives memory of long recordings back, and forgets the limit.
  void shrink();

 private:
  void layer(int index, int64_t frames, ThreadPool& pool);
  std::shared_ptr<const RecurrentWeights> weights_;
  FrameStore gates_, states_;
  int64_t most_frames_ = INT64_MAX;  // in memory
  std::string folder_;
  std::unique_ptr<SpilledRecurrent> spilled_;  // has all frames, once there are more
};

}  // namespace mtfa
