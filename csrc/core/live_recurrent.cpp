#include "core/live_recurrent.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace mtfa {

namespace {

void require_step(const char* name, int given, int least) {
  constexpr int kMost = 1 << 16;  // frames: 20 minutes
  if (given < least || given > kMost || given % kFrameStep) {
    throw std::invalid_argument(std::string(name) + ": got " + std::to_string(given) + ", allowed: a multiple of " +
                                std::to_string(kFrameStep) + " from " + std::to_string(least) + " to " +
                                std::to_string(kMost));
  }
}

}  // namespace

void LiveShape::check() const {
  require_step("chunk", chunk, kFrameStep);
  require_step("look_ahead", look_ahead, 0);
}

Schedule LiveShape::schedule(int64_t lag) const {
  Schedule found;
  found.live = true;
  found.step = kFrameStep;
  for (int step = kFrameStep; step <= kBandRows; step += kFrameStep) {
    if (chunk % step == 0) found.step = step;
  }
  const int64_t rest = (look_ahead + lag) % found.step;
  found.first = rest ? rest : found.step;
  return found;
}

LiveRecurrent::LiveRecurrent(std::shared_ptr<const RecurrentWeights> weights, const LiveShape& shape)
    : weights_(std::move(weights)),
      shape_(shape),
      gates1_(6 * weights_->hidden),
      states1_(2 * weights_->hidden),
      carried1_(weights_->hidden),
      carried2_(weights_->hidden) {
  const size_t rows = static_cast<size_t>(shape.chunk) + shape.look_ahead;
  gates2_ = AlignedArray<float>(rows * 6 * weights_->hidden);
  states2_ = AlignedArray<float>(rows * 2 * weights_->hidden);
  gate_rows_.resize(rows), state_rows_.resize(rows);
  probabilities_.resize(static_cast<size_t>(shape.chunk) * weights_->shape.classes);
}

void LiveRecurrent::chunk(int count, int64_t end, ThreadPool& pool) {
  const RecurrentWeights& w = *weights_;
  const int hidden = w.hidden;
  const int64_t first = answered_, rows = end - first;
  float* const gates1 = gates1_.rows(first, rows);
  float* const states1 = states1_.rows(first, rows);

  const auto layer = [&](int index, float* gates, float* states, int64_t from, int64_t to, float* carried) {
    for (int64_t i = 0; i < rows; ++i) gate_rows_[i] = gates + i * 6 * hidden, state_rows_[i] = states + i * 2 * hidden;
    pool.run(2, [&](int direction) {
      const GruDirection& d = w.directions[index][direction];
      if (direction) {
        d.run(1, gate_rows_.data(), state_rows_.data(), rows, hidden, w.kernels);
      } else if (from < to) {
        d.run(0, gate_rows_.data() + (from - first), state_rows_.data() + (from - first), to - from, hidden, w.kernels,
              carried, from);
        std::copy_n(states + (to - 1 - first) * 2 * hidden, hidden, carried);
      }
    });
  };

  layer(0, gates1, states1, forward_, end, carried1_.data());
  forward_ = end;
  w.project(states1, gates2_.data(), rows, pool);
  layer(1, gates2_.data(), states2_.data(), first, first + count, carried2_.data());
  w.head(states2_.data(), probabilities_.data(), count, pool);
  answered_ += count;
  gates1_.drop_before(answered_);
  states1_.drop_before(answered_);
}

void LiveRecurrent::advance(int64_t ready, std::vector<float>& out, ThreadPool& pool) {
  while (answered_ + shape_.chunk + shape_.look_ahead <= ready) {
    chunk(shape_.chunk, answered_ + shape_.chunk + shape_.look_ahead, pool);
    out.insert(out.end(), probabilities_.begin(), probabilities_.end());
  }
}

void LiveRecurrent::finish(int64_t padded, int64_t frames, std::vector<float>& out, ThreadPool& pool) {
  while (answered_ < frames) {
    const int64_t first = answered_;
    const int count = static_cast<int>(std::min<int64_t>(shape_.chunk, padded - first));
    chunk(count, std::min<int64_t>(first + count + shape_.look_ahead, padded), pool);
    const int64_t wanted = std::min<int64_t>(count, frames - first);
    out.insert(out.end(), probabilities_.begin(), probabilities_.begin() + wanted * weights_->shape.classes);
  }
}

}  // namespace mtfa
