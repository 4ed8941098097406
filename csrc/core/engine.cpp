#include "core/engine.h"

#include <algorithm>
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
    : shape_(shape), log_mel_(std::move(log_mel)) {
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

Stream::Stream(std::shared_ptr<const Engine> engine, std::optional<MemoryLimit> limit)
    : engine_(std::move(engine)),
      state_(engine_->take()),
      feed_(*engine_->log_mel_, engine_->mean_, engine_->std_, *state_->trunk, [](int64_t, ThreadPool&) {}) {
  if (limit) state_->recurrent.limit(std::move(*limit));
}

Stream::~Stream() { engine_->give_back(std::move(state_)); }

void Stream::probabilities(float* out, ThreadPool& pool) {
  if (!feed_.closed()) throw std::logic_error("stream: open, allowed: closed");
  state_->recurrent.run(feed_.padded(), feed_.frames(), out, pool);
}

}  // namespace mtfa
