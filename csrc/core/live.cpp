#include "core/live.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace mtfa {

namespace {

const LiveShape& checked(const LiveShape& shape) {
  shape.check();
  return shape;
}

void require_finite(const float* samples, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if (!std::isfinite(samples[i])) {
      throw std::invalid_argument("samples: got NaN or infinity at " + std::to_string(i) + ", allowed: finite");
    }
  }
}

}  // namespace

LiveStream::LiveStream(std::shared_ptr<const Engine> engine, const LiveShape& shape)
    : engine_(std::move(engine)),
      shape_(checked(shape)),
      recurrent_(engine_->recurrent_, shape_),
      trunk_(make_trunk(
          engine_->trunk_, [this](int64_t frame) { return recurrent_.projected(frame); }, &shape_)),
      feed_(*engine_->log_mel_, engine_->mean_, engine_->std_, *trunk_,
            [this](int64_t rows, ThreadPool& pool) { recurrent_.advance(rows - trunk_->lag(), ready_, pool); }) {}

void LiveStream::push(const float* samples, int64_t count, ThreadPool& pool) {
  require_finite(samples, count);
  feed_.samples(samples, count, pool);
}

void LiveStream::push_log_mel(const float* rows, int64_t count, ThreadPool& pool) { feed_.log_mel(rows, count, pool); }

void LiveStream::finish(ThreadPool& pool) {
  feed_.close(pool);
  recurrent_.finish(feed_.padded(), feed_.frames(), ready_, pool);
}

int64_t LiveStream::delay() const {
  // A frame that reads samples beyond the next frame's centre waits for them, too.
  const LogMel& log_mel = *engine_->log_mel_;
  const int64_t beyond = std::max<int64_t>(log_mel.reach() - log_mel.hop(), 0);
  return shape_.chunk + shape_.look_ahead + trunk_->lag() + (beyond + log_mel.hop() - 1) / log_mel.hop();
}

std::vector<float> LiveStream::take() {
  std::vector<float> taken;
  taken.swap(ready_);
  return taken;
}

void push_together(LiveStream* const* streams, const float* const* samples, const int64_t* counts, int64_t count,
                   ThreadPool& pool) {
  for (int64_t i = 0; i < count; ++i) {
    require_finite(samples[i], counts[i]);
    if (streams[i]->finished()) throw std::logic_error("stream: closed, allowed: open");
  }
  if (count < pool.size() || pool.size() == 1) {
    for (int64_t i = 0; i < count; ++i) streams[i]->push(samples[i], counts[i], pool);
    return;
  }
  pool.run(static_cast<int>(count), [&](int i) {
    ThreadPool alone(1);
    streams[i]->push(samples[i], counts[i], alone);
  });
}

}  // namespace mtfa
