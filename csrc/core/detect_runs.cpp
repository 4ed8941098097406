#include "core/detect_runs.h"

#include <limits>
#include <stdexcept>
#include <string>

#include "core/median_filter.h"

namespace mtfa {

template <class T>
std::vector<Run<T>> detect_runs(const T* probabilities, int64_t frames, int64_t classes, const T* thresholds,
                                const int64_t* windows) {
  if (frames < 0 || classes < 0 || classes > std::numeric_limits<int32_t>::max()) {
    throw std::invalid_argument("probabilities: got " + std::to_string(frames) + " frames of " +
                                std::to_string(classes) + " classes, allowed: >= 0, classes < 2^31");
  }
  std::vector<Run<T>> runs;
  for (int64_t k = 0; k < classes; ++k) {
    require_window(windows[k]);
    const T* const column = probabilities + k;
    bool before = false;
    majority(
        frames, windows[k], [&](int64_t i) { return column[i * classes] > thresholds[k]; },
        [&](int64_t i, bool active) {
          if (active) {
            const T value = column[i * classes];
            if (!before) runs.push_back({static_cast<int32_t>(k), i, i, value});
            Run<T>& run = runs.back();
            run.last = i + 1;
            if (value > run.peak || run.peak != run.peak) run.peak = value;
          }
          before = active;
        });
  }
  return runs;
}

template std::vector<Run<float>> detect_runs(const float*, int64_t, int64_t, const float*, const int64_t*);
template std::vector<Run<double>> detect_runs(const double*, int64_t, int64_t, const double*, const int64_t*);

}  // namespace mtfa
