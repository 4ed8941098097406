// The decision of detect_runs.h while probabilities come in: each run is given out once, when it is over and can no
// longer change. Constant memory: a filter's length of frames a class.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "core/detect_runs.h"

namespace mtfa {

struct LiveDecision {
  float threshold;
  int64_t window;             // of the median filter: odd
  float minimum_score = 0.0;  // of the highest probability of a run; runs below it are none
};

// Not for several threads at once.
class LiveRuns {
 public:
  // Throws std::invalid_argument for an even window or one < 1.
  explicit LiveRuns(const std::vector<LiveDecision>& classes);

  // `frames` more rows of probabilities (frames, classes). All that is over then is appended to `ended`, where the peak
  // of frames that are all NaN is 0. A run whose beginning has become certain, and which will be in `ended` some day,
  // is appended once to `begun`, with the frames and the peak that are known so far.
  void push(const float* rows, int64_t frames, std::vector<Run<float>>& ended, std::vector<Run<float>>& begun);
  // The sequence is over. Runs that reach its end are `ended`.
  void finish(std::vector<Run<float>>& ended, std::vector<Run<float>>& begun);
  // Frames behind a frame that its decision waits for: half of the longest filter.
  int64_t delay() const;

 private:
  struct Class {
    LiveDecision decision;
    std::deque<float> values{};              // of frames from `first` on: what the filter still sees
    int64_t first = 0, next = 0, count = 0;  // next: the frame to be decided; count: active frames under the filter
    bool open = false, told = false;
    Run<float> run{};
  };
  void decide(Class& of, std::vector<Run<float>>& ended, std::vector<Run<float>>& begun);
  static void close(Class& of, std::vector<Run<float>>& ended);

  std::vector<Class> classes_;
};

}  // namespace mtfa
