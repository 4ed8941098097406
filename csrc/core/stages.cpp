#include "core/stages.h"

#include <algorithm>
#include <stdexcept>

namespace mtfa {

int Pipeline::deepest() const {
  int deepest = 0;
  for (const auto& stage : stages_) deepest = std::max(deepest, stage->level());
  return deepest;
}

int64_t Pipeline::lag() {
  constexpr int64_t kPushes = 128;  // by far more than any delay
  for (int64_t i = 0; i < kPushes; ++i) advance(8, nullptr);
  const int64_t found = stages_.front()->produced_ - stages_.back()->produced_;
  reset();
  return found;
}

void Pipeline::plan(const Schedule& schedule) {
  const int deepest = this->deepest();
  consumers_.resize(stages_.size());
  for (const auto& stage : stages_) {
    const auto inputs = stage->inputs();
    for (size_t i = 0; i < stages_.size(); ++i) {
      if (std::find(inputs.begin(), inputs.end(), stages_[i].get()) != inputs.end()) {
        consumers_[i].push_back(stage.get());
      }
    }
  }
  int64_t period = schedule.step;  // of the schedule, in frames
  if (schedule.live) {
    while (period % (int64_t{2} << deepest)) period += schedule.step;  // a pair of the deepest rows
  } else {
    for (int level = 0; level <= deepest; ++level) period = std::max(period, rows_together(level) << level);
  }
  kept_.assign(stages_.size(), 0);
  planning_ = true;
  reset();
  // Once all stages stand as far behind the input as they did a period before, everything repeats. Every end of a
  // sequence until then is tried, and for one period more: in the first, nothing before row 0 had to be kept. So what
  // is recorded is the most that any length needs.
  std::vector<std::vector<int64_t>> delays;
  const int64_t bands = period / schedule.step;
  for (int64_t next = schedule.first;; next = schedule.step) {
    for (int64_t rows = 1 << deepest; rows <= next; rows += 1 << deepest) plan_end(rows);
    advance(next, nullptr);
    delays.emplace_back();
    for (const auto& stage : stages_) {
      delays.back().push_back(stages_[0]->produced_ - (stage->produced_ << stage->level()));
    }
    if (static_cast<int64_t>(delays.size()) > 2 * bands && delays.end()[-1 - bands] == delays.end()[-1 - 2 * bands]) {
      break;
    }
  }
  planning_ = false;
  reset();
  for (size_t i = 0; i < stages_.size(); ++i) stages_[i]->allocate(kept_[i]);
}

// The rest of the schedule where only `rows` more come; everything stands as before afterwards.
void Pipeline::plan_end(int64_t rows) {
  std::vector<int64_t> produced;
  for (const auto& stage : stages_) produced.push_back(stage->produced_);
  advance(rows, nullptr);
  set_totals();
  advance(0, nullptr);
  for (size_t i = 0; i < stages_.size(); ++i) {
    if (!stages_[i]->done()) throw std::logic_error("pipeline: the schedule does not finish");
    stages_[i]->produced_ = produced[i];
    stages_[i]->total_ = -1;
  }
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
      const int64_t most = stage.produced_ + rows_together(stage.level());
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
