// The two numbers that define a live answer, and how the trunk is fed for it.
#pragma once

#include <cstdint>

#include "core/stages.h"

namespace mtfa {

// The network's time grid, in frames: chunks, look-ahead and padding are multiples of it.
constexpr int kFrameStep = 8;

// A latency-controlled bidirectional GRU. The sequence is cut into chunks of `chunk` frames. The forward direction of
// each layer carries its state from chunk to chunk; the backward direction of each layer starts anew from zeros
// `look_ahead` frames behind each chunk, or at the sequence's end. A chunk's second layer reads the first layer's
// backward states of the same start, also within the look-ahead.
struct LiveShape {
  int chunk = 16, look_ahead = 64;

  // Throws std::invalid_argument unless both are multiples of 8, 8 <= chunk and 0 <= look_ahead, at most 2^16.
  void check() const;
  // Pushes end where a chunk can be answered: `lag` and look_ahead behind its end.
  Schedule schedule(int64_t lag) const;
};

}  // namespace mtfa
