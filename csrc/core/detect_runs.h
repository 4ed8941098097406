// From frame probabilities to runs of active frames: threshold, median filter, boundaries (section 3.1 of the paper).
#pragma once

#include <cstdint>
#include <vector>

namespace mtfa {

template <class T>
struct Run {
  int32_t event_class;
  int64_t first, last;  // frames [first, last)
  T peak;               // highest probability of these frames; NaN if they are all NaN
};

// probabilities (frames, classes), one threshold and one odd window a class; T is float or double. A frame is active
// where its probability is greater than the threshold; NaN is not. Runs in order of class, then time. Throws
// std::invalid_argument for an even window or one < 1, and for negative sizes.
template <class T>
std::vector<Run<T>> detect_runs(const T* probabilities, int64_t frames, int64_t classes, const T* thresholds,
                                const int64_t* windows);

}  // namespace mtfa
