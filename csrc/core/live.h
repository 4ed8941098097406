// Sound in, frame probabilities out while it happens: a stream without end in constant memory. What turns the
// probabilities into events is in live_runs.h.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/engine.h"
#include "core/live_recurrent.h"
#include "core/live_shape.h"

namespace mtfa {

// Results depend on the samples and the shape alone: not on how the samples are cut, on threads or on other streams,
// bit for bit. With a look-ahead that reaches the end from the first frame they are the engine's. Not for several
// threads at once.
class LiveStream {
 public:
  // Throws std::invalid_argument for a shape that is not allowed (live_shape.h).
  LiveStream(std::shared_ptr<const Engine> engine, const LiveShape& shape);
  // Mono samples at the engine's rate, any number. Throws std::invalid_argument for a NaN or infinite one, before any
  // of them is taken: it would stay in the forward direction's state for ever.
  void push(const float* samples, int64_t count, ThreadPool& pool);
  // Raw log-mel rows (count, mel_bands) in the place of samples, finite.
  void push_log_mel(const float* rows, int64_t count, ThreadPool& pool);
  // Ends the stream: the probabilities of all its frames, 1 + samples / hop, are there. Throws std::invalid_argument
  // where it had none.
  void finish(ThreadPool& pool);

  // The probabilities (frames, classes) that became final since the last call, in order of time.
  std::vector<float> take();
  bool finished() const { return feed_.closed(); }
  int64_t samples() const { return feed_.received(); }
  const LiveShape& shape() const { return shape_; }
  int classes() const { return engine_->shape().classes; }
  // Frame t is answered at the latest when the samples up to frame t + delay() are there.
  int64_t delay() const;

 private:
  std::shared_ptr<const Engine> engine_;
  const LiveShape shape_;
  LiveRecurrent recurrent_;
  std::unique_ptr<Trunk> trunk_;
  Feed feed_;
  std::vector<float> ready_;
};

// One block for each of `count` different streams, of any engines: side by side when there are enough for every thread,
// else one after another with all threads. Throws as LiveStream::push, before anything is taken.
void push_together(LiveStream* const* streams, const float* const* samples, const int64_t* counts, int64_t count,
                   ThreadPool& pool);

}  // namespace mtfa
