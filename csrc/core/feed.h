// Samples or log-mel rows of one recording on their way into a trunk, however they are cut.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/log_mel.h"
#include "core/trunk.h"

namespace mtfa {

// Borrows all that it is given. `pushed` is called after each push into the trunk, with the rows pushed so far.
class Feed {
 public:
  Feed(const LogMel& log_mel, const std::vector<float>& mean, const std::vector<float>& std, Trunk& trunk,
       std::function<void(int64_t rows, ThreadPool& pool)> pushed);
  void samples(const float* samples, int64_t count, ThreadPool& pool);
  void log_mel(const float* rows, int64_t count, ThreadPool& pool);
  // Ends the recording: pads it to a multiple of 8 frames with its last one, and empties the trunk. Throws
  // std::invalid_argument where there was no audio.
  void close(ThreadPool& pool);
  // Throws std::logic_error once it is closed.
  void require_open() const;
  bool closed() const { return closed_; }
  int64_t received() const { return received_; }  // samples
  int64_t frames() const { return frames_; }      // log-mel rows
  int64_t padded() const { return (frames_ + 7) / 8 * 8; }

 private:
  void frames_from_samples(int64_t last, ThreadPool& pool);
  void row_done(ThreadPool& pool);
  void push(ThreadPool& pool);

  const LogMel& log_mel_;
  const std::vector<float>&mean_, &std_;
  Trunk& trunk_;
  std::function<void(int64_t, ThreadPool&)> pushed_;
  std::vector<float> samples_;  // those that later frames still need
  int64_t first_sample_ = 0;    // absolute index of samples_[0]
  int64_t received_ = 0;        // samples so far
  int64_t frames_ = 0;          // log-mel rows made so far
  int64_t pending_ = 0;         // rows written but not yet pushed into the trunk
  int64_t in_trunk_ = 0;        // rows pushed
  bool closed_ = false;
};

}  // namespace mtfa
