#include "core/feed.h"

#include <algorithm>
#include <stdexcept>

namespace mtfa {

Feed::Feed(const LogMel& log_mel, const std::vector<float>& mean, const std::vector<float>& std, Trunk& trunk,
           std::function<void(int64_t, ThreadPool&)> pushed)
    : log_mel_(log_mel), mean_(mean), std_(std), trunk_(trunk), pushed_(std::move(pushed)) {}

void Feed::require_open() const {
  if (closed_) throw std::logic_error("stream: closed, allowed: open");
}

void Feed::log_mel(const float* rows, int64_t count, ThreadPool& pool) {
  require_open();
  const int bands = log_mel_.mel_bands();
  for (int64_t i = 0; i < count; ++i) {
    const float* row = rows + i * bands;
    float* to = trunk_.next_input(pending_);
    for (int d = 0; d < bands; ++d) to[d] = (row[d] - mean_[d]) / std_[d];
    ++frames_;
    row_done(pool);
  }
}

void Feed::row_done(ThreadPool& pool) {
  const Schedule& schedule = trunk_.schedule();
  if (++pending_ == (in_trunk_ ? schedule.step : schedule.first)) push(pool);
}

void Feed::push(ThreadPool& pool) {
  trunk_.push(pending_, pool);
  in_trunk_ += pending_;
  pending_ = 0;
  pushed_(in_trunk_, pool);
}

void Feed::samples(const float* samples, int64_t count, ThreadPool& pool) {
  require_open();
  constexpr int64_t kBlock = 1 << 18;  // what is copied at a time, however much comes
  const int64_t reach = log_mel_.reach();
  for (int64_t done = 0; done < count; done += kBlock) {
    const int64_t n = std::min(kBlock, count - done);
    samples_.insert(samples_.end(), samples + done, samples + done + n);
    received_ += n;
    if (received_ >= reach) frames_from_samples((received_ - reach) / log_mel_.hop() + 1, pool);
  }
}

void Feed::frames_from_samples(int64_t last, ThreadPool& pool) {
  constexpr int64_t kGroup = 8;
  const int64_t count = last - frames_;
  if (count <= 0) return;
  const int bands = log_mel_.mel_bands();
  std::vector<float> rows(static_cast<size_t>(count) * bands);
  // Counted from near by, so that a stream may last for ever.
  const int64_t base = first_sample_ / log_mel_.hop(), first = frames_ - base;
  const int64_t offset = first_sample_ - base * log_mel_.hop();
  pool.run(static_cast<int>((count + kGroup - 1) / kGroup), [&](int i) {
    const int64_t from = i * kGroup, n = std::min(kGroup, count - from);
    log_mel_.frames(samples_.data(), static_cast<int64_t>(samples_.size()), offset, first + from, n,
                    rows.data() + from * bands);
  });
  log_mel(rows.data(), count, pool);
  const int64_t keep = std::clamp(frames_ * log_mel_.hop() - log_mel_.fft_length() / 2, first_sample_, received_);
  samples_.erase(samples_.begin(), samples_.begin() + (keep - first_sample_));
  first_sample_ = keep;
}

void Feed::close(ThreadPool& pool) {
  require_open();
  if (received_ > 0) frames_from_samples(1 + received_ / log_mel_.hop(), pool);
  if (frames_ == 0) throw std::invalid_argument("stream: got no audio, allowed: at least one frame");
  closed_ = true;
  // The network sees a multiple of eight frames: the last one is repeated.
  const int bands = log_mel_.mel_bands();
  const float* last = trunk_.next_input(pending_ - 1);
  const std::vector<float> repeated(last, last + bands);
  for (int64_t t = frames_; t < padded(); ++t) {
    std::copy(repeated.begin(), repeated.end(), trunk_.next_input(pending_));
    row_done(pool);
  }
  if (pending_) push(pool);
  trunk_.finish(pool);
}

}  // namespace mtfa
