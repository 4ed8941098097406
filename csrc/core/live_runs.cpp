#include "core/live_runs.h"

#include <algorithm>

#include "core/median_filter.h"

namespace mtfa {

LiveRuns::LiveRuns(const std::vector<LiveDecision>& classes) {
  for (const LiveDecision& decision : classes) {
    require_window(decision.window);
    classes_.push_back({decision});
    classes_.back().run.event_class = static_cast<int32_t>(classes_.size()) - 1;
  }
}

int64_t LiveRuns::delay() const {
  int64_t longest = 0;
  for (const Class& of : classes_) longest = std::max(longest, of.decision.window / 2);
  return longest;
}

void LiveRuns::push(const float* rows, int64_t frames, std::vector<Run<float>>& ended, std::vector<Run<float>>& begun) {
  for (int64_t i = 0; i < frames; ++i) {
    for (Class& of : classes_) {
      const float value = *rows++;
      of.values.push_back(value);
      of.count += value > of.decision.threshold;
      if (of.first + static_cast<int64_t>(of.values.size()) > of.next + of.decision.window / 2)
        decide(of, ended, begun);
    }
  }
}

void LiveRuns::finish(std::vector<Run<float>>& ended, std::vector<Run<float>>& begun) {
  for (Class& of : classes_) {
    const int64_t end = of.first + static_cast<int64_t>(of.values.size());
    while (of.next < end) decide(of, ended, begun);
    close(of, ended);
  }
}

void LiveRuns::decide(Class& of, std::vector<Run<float>>& ended, std::vector<Run<float>>& begun) {
  const int64_t half = of.decision.window / 2, i = of.next++;
  if (of.count > half) {
    const float value = of.values[i - of.first];
    Run<float>& run = of.run;
    if (!of.open) run.first = i, run.peak = value, of.told = false;
    of.open = true;
    run.last = i + 1;
    if (value > run.peak || run.peak != run.peak) run.peak = value;
    if (!of.told && (run.peak >= of.decision.minimum_score || of.decision.minimum_score == 0)) {
      begun.push_back(run);
      if (run.peak != run.peak) begun.back().peak = 0;
      of.told = true;
    }
  } else {
    close(of, ended);
  }
  if (i >= half) {  // the frame that the next one's filter no longer sees
    of.count -= of.values.front() > of.decision.threshold;
    of.values.pop_front();
    ++of.first;
  }
}

void LiveRuns::close(Class& of, std::vector<Run<float>>& ended) {
  if (of.open && of.told) {
    ended.push_back(of.run);
    if (of.run.peak != of.run.peak) ended.back().peak = 0;
  }
  of.open = false;
}

}  // namespace mtfa
