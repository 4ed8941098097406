// Rows of a sequence without end, of which only those from some frame on are kept.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/memory.h"

namespace mtfa {

class FrameWindow {
 public:
  explicit FrameWindow(int columns) : columns_(columns) {}

  // Row of `frame`, not before first(), with memory for `count` rows from it on, one after another. A pointer lives
  // until the next call that needs more memory, or drop_before().
  float* rows(int64_t frame, int64_t count) {
    const int64_t needed = frame + count - first_;
    if (needed > capacity_) grow(needed);
    used_ = std::max(used_, needed);
    return rows_.data() + (frame - first_) * columns_;
  }
  int64_t first() const { return first_; }
  void drop_before(int64_t frame) {
    const int64_t gone = frame - first_, kept = std::max<int64_t>(used_ - gone, 0);
    std::copy_n(rows_.data() + gone * columns_, kept * columns_, rows_.data());
    first_ = frame, used_ = kept;
  }

 private:
  void grow(int64_t rows) {
    AlignedArray<float> larger(static_cast<size_t>(rows) * columns_);
    std::copy_n(rows_.data(), used_ * columns_, larger.data());
    rows_ = std::move(larger), capacity_ = rows;
  }
  int columns_;
  int64_t first_ = 0, used_ = 0, capacity_ = 0;
  AlignedArray<float> rows_;
};

}  // namespace mtfa
