#include "core/stages.h"

#include <algorithm>
#include <stdexcept>

namespace mtfa {

void Pipeline::plan() {
  int deepest = 0;
  consumers_.resize(stages_.size());
  for (const auto& stage : stages_) {
    deepest = std::max(deepest, stage->level());
    const auto inputs = stage->inputs();
    for (size_t i = 0; i < stages_.size(); ++i) {
      if (std::find(inputs.begin(), inputs.end(), stages_[i].get()) != inputs.end()) {
        consumers_[i].push_back(stage.get());
      }
    }
  }
  const int64_t step = int64_t{1} << deepest;
  kept_.assign(stages_.size(), 0);
  planning_ = true;
  // The schedule repeats after the longest delay (some hundred rows); all ends of a sequence within it
  // are tried, so what is recorded is the most that any length needs.
  for (int64_t total = step; total <= 512 + 2 * band_; total += step) {
    reset();
    for (int64_t pushed = 0; pushed < total;) {
      const int64_t n = std::min<int64_t>(band_, total - pushed);
      advance(n, nullptr);
      pushed += n;
    }
    set_totals();
    advance(0, nullptr);
    for (const auto& stage : stages_) {
      if (!stage->done()) throw std::logic_error("pipeline: the schedule does not finish");
    }
  }
  planning_ = false;
  reset();
  for (size_t i = 0; i < stages_.size(); ++i) stages_[i]->allocate(kept_[i]);
}

// A stage keeps most right after it has made rows: from then on its consumers only let go.
void Pipeline::record(size_t index) {
  const Stage* stage = stages_[index].get();
  int64_t oldest = stage->produced_;
  for (const Stage* consumer : consumers_[index]) {
    if (!consumer->done()) oldest = std::min(oldest, consumer->oldest_needed(stage));
  }
  kept_[index] = std::max(kept_[index], stage->produced_ - std::max<int64_t>(oldest, 0));
}

void Pipeline::advance(int64_t rows, ThreadPool* pool) {
  stages_[0]->produced_ += rows;
  if (planning_) record(0);
  for (bool progress = true; progress;) {
    progress = false;
    for (size_t i = 1; i < stages_.size(); ++i) {
      Stage& stage = *stages_[i];
      const int64_t most = stage.produced_ + std::max<int64_t>(band_ >> stage.level(), 1);
      const int64_t target = std::min(stage.ready(), most);
      if (target <= stage.produced_) continue;
      if (pool) {
        stage.run(stage.produced_, target, *pool);
        if (&stage == watched_) seen_(stage.produced_, target);
      }
      stage.produced_ = target;
      progress = true;
      if (planning_) record(i);
    }
  }
}

void Pipeline::set_totals() {
  const int64_t total = stages_[0]->produced_;
  for (auto& stage : stages_) stage->total_ = total >> stage->level();
}

void Pipeline::finish(ThreadPool& pool) {
  set_totals();
  advance(0, &pool);
}

void Pipeline::reset() {
  for (auto& stage : stages_) {
    stage->produced_ = 0;
    stage->total_ = -1;
  }
}

}  // namespace mtfa
