// The depth-first plan: every layer is a stage that turns rows (one time step of a feature map) of the
// stages before it into rows of its own, as soon as they are there, and keeps only the rows that somebody
// still needs in a ring buffer. So a recording of any length needs the same memory, and a row is still in
// the cache when it is used.
//
// A stage at level l makes one row for 2^l frames. The schedule depends on counts alone: a dry run over
// every phase finds each ring's size before anything is allocated.
//
// How many rows go through a stage together is a balance of two ways through the caches. At full resolution it is the
// rows that are large, and few of them pass from stage to stage within a core's own cache. Below, it is the weights:
// every time a stage runs they come from a cache that the cores share, so the poolings wait until there is enough to
// do.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "core/memory.h"
#include "core/thread_pool.h"

namespace mtfa {

// Level-0 rows that go through the stages together, at most.
constexpr int kBandRows = 32;
// Rows of a stage that go through it together.
constexpr int64_t rows_together(int level) { return level == 0 ? kBandRows : 128 >> level; }

// In which portions the rows of a sequence are pushed, and whether the stages wait for company.
struct Schedule {
  int64_t first = kBandRows;  // rows of the first push, and of every other: at most kBandRows; live: multiples of 8
  int64_t step = kBandRows;
  bool live = false;  // every row as soon as it can be made, at the price of smaller groups
};
// In a live schedule convolutions from this level on make half a pair of rows where the other half cannot be made yet,
// and that half again by itself later: a pair there is 8 or 16 frames of delay at each convolution, and cheap.
constexpr int kSingleRowsLevel = 2;

class Stage {
 public:
  explicit Stage(int level) : level_(level) {}
  virtual ~Stage() = default;
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;

  int64_t produced() const { return produced_; }
  int64_t total() const { return total_; }  // rows of the whole sequence; -1 until the end is known
  bool done() const { return produced_ == total_; }
  int level() const { return level_; }

  // Rows that could exist by now, given the inputs' produced rows; at most `total`.
  virtual int64_t ready() const = 0;
  // The stages read, and the oldest row of each that making further rows still needs.
  virtual std::vector<const Stage*> inputs() const = 0;
  virtual int64_t oldest_needed(const Stage* input) const = 0;
  // Makes rows [first, last).
  virtual void run(int64_t first, int64_t last, ThreadPool& pool) = 0;
  // Memory for `rows` rows, which never include one that `oldest_needed` no longer asks for.
  virtual void allocate(int64_t rows) = 0;

 private:
  friend class Pipeline;
  int level_;
  int64_t produced_ = 0;
  int64_t total_ = -1;
};

// Stages in the order of their data, advanced together. The first stage is the input: its rows are
// announced by push() after the caller has written them.
class Pipeline {
 public:
  template <class S, class... Args>
  S* add(Args&&... args) {
    auto stage = std::make_unique<S>(std::forward<Args>(args)...);
    S* raw = stage.get();
    stages_.push_back(std::move(stage));
    return raw;
  }

  // Runs the schedule without data and allocates every ring. Call once, after the last add().
  void plan(const Schedule& schedule = {});
  // How many rows the last stage, at level 0, stands behind the first when 8 are pushed at a time for long, in a live
  // schedule: then it depends on the number of rows alone, not on the portions.
  int64_t lag();
  // `rows` more rows of the first stage are there: at most kBandRows.
  void push(int64_t rows, ThreadPool& pool) { advance(rows, &pool); }
  // No more input: the first stage's rows, a multiple of 2^deepest level, are all.
  void finish(ThreadPool& pool);
  void reset();
  // Calls `seen` with the rows [first, last) of one stage as soon as they are made; a null stage ends it.
  void watch(const Stage* stage, std::function<void(int64_t first, int64_t last)> seen) {
    watched_ = stage;
    seen_ = std::move(seen);
  }

 private:
  void advance(int64_t rows, ThreadPool* pool);
  void set_totals();
  void record(size_t index);
  void plan_end(int64_t rows);
  int deepest() const;

  std::vector<std::unique_ptr<Stage>> stages_;
  // While planning: each stage's consumers, and the most rows that it ever had to keep.
  std::vector<std::vector<const Stage*>> consumers_;
  std::vector<int64_t> kept_;
  bool planning_ = false;
  const Stage* watched_ = nullptr;
  std::function<void(int64_t, int64_t)> seen_;
};

}  // namespace mtfa
