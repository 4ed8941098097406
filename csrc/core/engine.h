// The whole network on the CPU: log-mel rows or samples in, frame probabilities out.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/feed.h"
#include "core/isa.h"
#include "core/log_mel.h"
#include "core/recurrent.h"
#include "core/trunk.h"
#include "core/weights.h"

namespace mtfa {

// The instruction set's table; `isa` must be available.
const Kernels& kernels_of(Isa isa);

class Stream;

// Immutable after construction: any number of threads may use one engine.
class Engine {
 public:
  // Tensors hold, beside the folded network, mean and std (mel_bands), and for int8 the steps of maps and transformed
  // inputs.
  Engine(const NetworkShape& shape, const Tensors& tensors, std::shared_ptr<const LogMel> log_mel, Isa isa,
         Precision precision);
  ~Engine();

  // log_mel (batch, frames, mel_bands), raw -> out (batch, frames, classes). Clips side by side when there are enough
  // for every thread, else one after another with all threads; the numbers are the same.
  void probabilities(const float* log_mel, int64_t batch, int64_t frames, float* out, ThreadPool& pool) const;

  // For checks: the stages of a run that can be seen, and what one of them makes of one clip, raw (frames, mel_bands):
  // (rows, width, channels), "gru" (frames, 2, hidden). Frames as padded, to a multiple of 8.
  struct Map {
    int64_t rows = 0;
    int width = 0, channels = 0;
    std::vector<float> values;
  };
  std::vector<std::string> stage_names() const;
  std::vector<std::string> map_names() const;  // those of feature maps, and of maps within residual blocks
  Map tap(const std::string& name, const float* log_mel, int64_t frames, ThreadPool& pool) const;
  // The recurrent part alone: vectors (frames, mel_bands / pooling * channels) -> out (frames, classes).
  void recurrent(const float* vectors, int64_t frames, float* out, ThreadPool& pool) const;

  const NetworkShape& shape() const { return shape_; }

 private:
  friend class Stream;
  friend class LiveStream;
  struct State;  // what one run needs: rings and stored frames
  std::unique_ptr<State> take() const;
  void give_back(std::unique_ptr<State> state) const;
  void clip(const float* log_mel, int64_t frames, float* out, ThreadPool& pool) const;

  NetworkShape shape_;
  std::vector<float> mean_, std_;
  std::shared_ptr<const LogMel> log_mel_;
  std::shared_ptr<const TrunkWeights> trunk_;
  std::shared_ptr<const RecurrentWeights> recurrent_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<State>> idle_;
};

// One recording, in blocks of any size. Not for several threads at once.
class Stream {
 public:
  // With a limit, what is more goes to a temporary file; the numbers are the same. A SpillError then comes out of
  // pushing or of probabilities(), and the stream is of no more use.
  explicit Stream(std::shared_ptr<const Engine> engine, std::optional<MemoryLimit> limit = {});
  ~Stream();
  void push_samples(const float* samples, int64_t count, ThreadPool& pool) { feed_.samples(samples, count, pool); }
  void push_log_mel(const float* rows, int64_t count, ThreadPool& pool) { feed_.log_mel(rows, count, pool); }
  // Ends the recording: frames() is final.
  void close(ThreadPool& pool) { feed_.close(pool); }
  int64_t frames() const { return feed_.frames(); }
  // After close(): (frames, classes).
  void probabilities(float* out, ThreadPool& pool);

 private:
  friend class Engine;
  std::shared_ptr<const Engine> engine_;
  std::unique_ptr<Engine::State> state_;
  Feed feed_;
};

}  // namespace mtfa
