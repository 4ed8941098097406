#include "core/engine.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "core/stages.h"

namespace mtfa {

const Kernels& kernels_of(Isa isa) { return MTFA_SELECT(isa, kernels)(); }

// The trunk writes the GRU's projected frames straight into the recurrent part's memory.
struct Engine::State {
  State(std::shared_ptr<const TrunkWeights> trunk_weights, std::shared_ptr<const RecurrentWeights> recurrent_weights)
      : recurrent(std::move(recurrent_weights)),
        trunk(make_trunk(std::move(trunk_weights), [this](int64_t frame) { return recurrent.projected(frame); })) {}
  Recurrent recurrent;
  std::unique_ptr<Trunk> trunk;
};

Engine::Engine(const NetworkShape& shape, const Tensors& tensors, std::shared_ptr<const LogMel> log_mel, Isa isa,
               Precision precision)
    : shape_(shape), keeps_nan_(precision != Precision::int8), log_mel_(std::move(log_mel)) {
  const Kernels& kernels = kernels_of(isa);
  if (precision == Precision::bf16 && !kernels.bf16) {
    throw std::invalid_argument(std::string("precision: got bf16, allowed with ") + name(isa) + ": fp32, int8");
  }
  const float* mean = tensors.get("mean", {shape.mel_bands});
  const float* std = tensors.get("std", {shape.mel_bands});
  mean_.assign(mean, mean + shape.mel_bands);
  std_.assign(std, std + shape.mel_bands);
  trunk_ = pack_trunk(shape, tensors, kernels, isa, precision);
  recurrent_ = std::make_shared<const RecurrentWeights>(shape, tensors, kernels);
}

Engine::~Engine() = default;

std::unique_ptr<Engine::State> Engine::take() const {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!idle_.empty()) {
      auto state = std::move(idle_.back());
      idle_.pop_back();
      return state;
    }
  }
  return std::make_unique<State>(trunk_, recurrent_);
}

void Engine::give_back(std::unique_ptr<State> state) const {
  state->trunk->reset();
  state->recurrent.shrink();
  std::lock_guard<std::mutex> lock(mutex_);
  idle_.push_back(std::move(state));
}

void Engine::probabilities(const float* log_mel, int64_t batch, int64_t frames, float* out, ThreadPool& pool) const {
  const int64_t in_size = frames * shape_.mel_bands, out_size = frames * shape_.classes;
  if (batch < pool.size() || pool.size() == 1) {
    for (int64_t b = 0; b < batch; ++b) clip(log_mel + b * in_size, frames, out + b * out_size, pool);
    return;
  }
  pool.run(static_cast<int>(batch), [&](int b) {
    ThreadPool alone(1);
    clip(log_mel + b * in_size, frames, out + b * out_size, alone);
  });
}

void Engine::clip(const float* log_mel, int64_t frames, float* out, ThreadPool& pool) const {
  // The stream only borrows: the engine outlives it.
  Stream stream(std::shared_ptr<const Engine>(std::shared_ptr<const Engine>(), this));
  stream.push_log_mel(log_mel, frames, pool);
  stream.close(pool);
  stream.probabilities(out, pool);
}

std::vector<std::string> Engine::stage_names() const {
  auto state = take();
  std::vector<std::string> names = state->trunk->stage_names();
  give_back(std::move(state));
  names.push_back("gru");
  return names;
}

std::vector<std::string> Engine::map_names() const {
  auto state = take();
  std::vector<std::string> names = state->trunk->map_names();
  give_back(std::move(state));
  return names;
}

Engine::Map Engine::tap(const std::string& name, const float* log_mel, int64_t frames, ThreadPool& pool) const {
  Map map;
  Stream stream(std::shared_ptr<const Engine>(std::shared_ptr<const Engine>(), this));
  if (name != "gru") {
    stream.state_->trunk->watch(name, [&map](const float* row, int width, int channels) {
      map.width = width, map.channels = channels, ++map.rows;
      map.values.insert(map.values.end(), row, row + static_cast<ptrdiff_t>(width) * channels);
    });
  }
  stream.push_log_mel(log_mel, frames, pool);
  stream.close(pool);
  if (name == "gru") {
    std::vector<float> unused(static_cast<size_t>(frames) * shape_.classes);
    stream.probabilities(unused.data(), pool);
    map.rows = (frames + 7) / 8 * 8, map.width = 2, map.channels = shape_.hidden;
    for (int64_t t = 0; t < map.rows; ++t) {
      for (int direction = 0; direction < 2; ++direction) {
        const float* state = stream.state_->recurrent.state(t, direction);
        map.values.insert(map.values.end(), state, state + shape_.hidden);
      }
    }
  }
  return map;
}

void Engine::recurrent(const float* vectors, int64_t frames, float* out, ThreadPool& pool) const {
  auto state = take();
  Recurrent& recurrent = state->recurrent;
  trunk_->project_vectors(vectors, frames, [&](int64_t frame) { return recurrent.projected(frame); }, pool);
  recurrent.run(frames, frames, out, pool);
  give_back(std::move(state));
}

Stream::Stream(std::shared_ptr<const Engine> engine) : engine_(std::move(engine)), state_(engine_->take()) {}

Stream::~Stream() { engine_->give_back(std::move(state_)); }

void Stream::push_log_mel(const float* rows, int64_t count, ThreadPool& pool) {
  if (closed_) throw std::logic_error("stream: closed, allowed: open");
  const int bands = engine_->shape_.mel_bands;
  for (int64_t i = 0; i < count; ++i) {
    const float* row = rows + i * bands;
    float* to = state_->trunk->next_input(pending_);
    for (int d = 0; d < bands; ++d) to[d] = (row[d] - engine_->mean_[d]) / engine_->std_[d];
    if (!engine_->keeps_nan_) lost_ |= !std::all_of(to, to + bands, [](float x) { return std::isfinite(x); });
    ++frames_;
    if (++pending_ == kBandRows) band(pool);
  }
}

void Stream::band(ThreadPool& pool) {
  state_->trunk->push(pending_, pool);
  pending_ = 0;
}

void Stream::push_samples(const float* samples, int64_t count, ThreadPool& pool) {
  if (closed_) throw std::logic_error("stream: closed, allowed: open");
  constexpr int64_t kBlock = 1 << 18;  // what is copied at a time, however much comes
  for (int64_t done = 0; done < count; done += kBlock) {
    const int64_t n = std::min(kBlock, count - done);
    samples_.insert(samples_.end(), samples + done, samples + done + n);
    received_ += n;
    // Frame i reads samples up to i * hop + fft_length / 2.
    const int64_t last = received_ - engine_->log_mel_->fft_length() / 2;
    if (last > 0) frames_from_samples(last / engine_->log_mel_->hop(), pool);
  }
}

void Stream::frames_from_samples(int64_t last, ThreadPool& pool) {
  const LogMel& log_mel = *engine_->log_mel_;
  constexpr int64_t kGroup = 8;
  const int64_t count = last - frames_;
  if (count <= 0) return;
  std::vector<float> rows(static_cast<size_t>(count) * engine_->shape_.mel_bands);
  const int64_t first = frames_;
  pool.run(static_cast<int>((count + kGroup - 1) / kGroup), [&](int i) {
    const int64_t from = i * kGroup, n = std::min(kGroup, count - from);
    log_mel.frames(samples_.data(), static_cast<int64_t>(samples_.size()), first_sample_, first + from, n,
                   rows.data() + from * engine_->shape_.mel_bands);
  });
  push_log_mel(rows.data(), count, pool);
  const int64_t keep = std::max<int64_t>(frames_ * log_mel.hop() - log_mel.fft_length() / 2, first_sample_);
  samples_.erase(samples_.begin(), samples_.begin() + std::min<int64_t>(keep - first_sample_, samples_.size()));
  first_sample_ = keep;
}

void Stream::close(ThreadPool& pool) {
  if (closed_) throw std::logic_error("stream: closed, allowed: open");
  if (received_ > 0) frames_from_samples(1 + received_ / engine_->log_mel_->hop(), pool);
  if (frames_ == 0) throw std::invalid_argument("stream: got no audio, allowed: at least one frame");
  closed_ = true;
  // The network sees a multiple of eight frames: the last one is repeated.
  Trunk& trunk = *state_->trunk;
  const int bands = engine_->shape_.mel_bands;
  const float* last = pending_ ? trunk.next_input(pending_ - 1) : trunk.next_input(-1);
  const std::vector<float> repeated(last, last + bands);
  for (int64_t t = frames_; t % 8; ++t) {
    std::copy(repeated.begin(), repeated.end(), trunk.next_input(pending_));
    if (++pending_ == kBandRows) band(pool);
  }
  if (pending_) band(pool);
  trunk.finish(pool);
}

void Stream::probabilities(float* out, ThreadPool& pool) {
  if (!closed_) throw std::logic_error("stream: open, allowed: closed");
  state_->recurrent.run((frames_ + 7) / 8 * 8, frames_, out, pool);
  if (lost_) std::fill_n(out, frames_ * engine_->shape_.classes, std::numeric_limits<float>::quiet_NaN());
}

}  // namespace mtfa
