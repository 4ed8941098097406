#include "core/stages.h"

#include <algorithm>
#include <stdexcept>

namespace mtfa {

void Pipeline::plan() {
  int deepest = 0;
  for (const auto& stage : stages_) deepest = std::max(deepest, stage->level());
  const int64_t step = int64_t{1} << deepest;
  std::vector<int64_t> rows(stages_.size(), 0);
  recorder_ = &rows;
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
  recorder_ = nullptr;
  reset();
  for (size_t i = 0; i < stages_.size(); ++i) stages_[i]->allocate(rows[i]);
}

void Pipeline::record(std::vector<int64_t>& rows) const {
  for (size_t i = 0; i < stages_.size(); ++i) {
    int64_t oldest = stages_[i]->produced_;
    for (const auto& consumer : stages_) {
      const auto inputs = consumer->inputs();
      if (std::find(inputs.begin(), inputs.end(), stages_[i].get()) == inputs.end()) continue;
      if (!consumer->done()) oldest = std::min(oldest, consumer->oldest_needed(stages_[i].get()));
    }
    rows[i] = std::max(rows[i], stages_[i]->produced_ - std::max<int64_t>(oldest, 0));
  }
}

void Pipeline::advance(int64_t rows, ThreadPool* pool) {
  stages_[0]->produced_ += rows;
  if (recorder_) record(*recorder_);
  for (bool progress = true; progress;) {
    progress = false;
    for (size_t i = 1; i < stages_.size(); ++i) {
      Stage& stage = *stages_[i];
      const int64_t most = stage.produced_ + std::max<int64_t>(band_ >> stage.level(), 1);
      const int64_t target = std::min(stage.ready(), most);
      if (target <= stage.produced_) continue;
      if (pool) stage.run(stage.produced_, target, *pool);
      stage.produced_ = target;
      progress = true;
      if (recorder_) record(*recorder_);
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
