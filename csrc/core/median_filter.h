// Median along time with zeros beyond the ends, as scipy.signal.medfilt.
#pragma once

#include <cstdint>

namespace mtfa {

// x and out: `frames` values, `stride` apart; out must not overlap x. T is float or double. Exact: every result is one
// of the inputs or 0; a window that holds a NaN gives NaN. Input of zeros and ones is counted instead of sorted.
// Any odd window, in memory of min(window, frames). Throws std::invalid_argument for an even window or one < 1, and
// for negative frames.
template <class T>
void median_filter(const T* x, int64_t frames, int64_t stride, int64_t window, T* out);

// The same for bools (0 or 1 a byte): 1 where more than half of the window is 1.
void majority_filter(const uint8_t* x, int64_t frames, int64_t stride, int64_t window, uint8_t* out);

void require_window(int64_t window);

// Calls result(frame, active) for each frame: whether active(i) holds for more than half of the window.
template <class Active, class Result>
void majority(int64_t frames, int64_t window, Active active, Result result) {
  const int64_t half = window / 2;
  int64_t count = 0;
  for (int64_t i = 0; i < half && i < frames; ++i) count += active(i);
  for (int64_t i = 0; i < frames; ++i) {
    if (half < frames - i) count += active(i + half);
    result(i, count > half);
    if (i >= half) count -= active(i - half);
  }
}

}  // namespace mtfa
