// The recurrent part of a live stream: the latency-controlled GRU layers of live_shape.h and the head, in constant
// memory.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/frame_window.h"
#include "core/live_shape.h"
#include "core/recurrent.h"
#include "core/thread_pool.h"

namespace mtfa {

class LiveRecurrent {
 public:
  LiveRecurrent(std::shared_ptr<const RecurrentWeights> weights, const LiveShape& shape);
  // Where the first layer's projected inputs from `frame` on go: kBandRows rows of (6 * hidden).
  float* projected(int64_t frame) { return gates1_.rows(frame, kBandRows); }
  // The frames before `ready` have been projected: appends the probabilities (frames, classes) of all chunks that can
  // be answered now.
  void advance(int64_t ready, std::vector<float>& out, ThreadPool& pool);
  // There are `padded` frames, of which the first `frames` are answered.
  void finish(int64_t padded, int64_t frames, std::vector<float>& out, ThreadPool& pool);

 private:
  // The chunk [answered_, answered_ + count), with the backward directions starting at `end`.
  void chunk(int count, int64_t end, ThreadPool& pool);

  std::shared_ptr<const RecurrentWeights> weights_;
  const LiveShape shape_;
  FrameWindow gates1_, states1_;             // both directions, from the chunk in work on
  AlignedArray<float> gates2_, states2_;     // of one chunk and what it looks ahead
  AlignedArray<float> carried1_, carried2_;  // the forward directions' last states
  std::vector<float*> gate_rows_, state_rows_;
  std::vector<float> probabilities_;
  int64_t answered_ = 0, forward_ = 0;  // frames whose chunks are done; those that layer 1 has gone forward over
};

}  // namespace mtfa
