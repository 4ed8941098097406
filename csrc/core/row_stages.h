// The stages of the trunk, one class per layer. T is the type of the feature maps.
#pragma once

#include <algorithm>
#include <vector>

#include "core/kernels/kernels.h"
#include "core/pack.h"
#include "core/stages.h"

namespace mtfa {

// A stage with a ring buffer of rows: `row_size` values each, of which the first `lead` and all that run()
// does not write stay zero.
template <class T>
class RingStage : public Stage {
 public:
  RingStage(int level, size_t row_size, size_t read_ahead = 0)
      : Stage(level), row_size_((row_size + 31) / 32 * 32), read_ahead_(read_ahead) {}

  // Row t, or zeros outside the sequence.
  const T* row(int64_t t) const {
    if (t < 0 || (total() >= 0 && t >= total())) return ring_.data() + capacity_ * row_size_;
    return ring_.data() + (t % capacity_) * row_size_;
  }
  T* writable(int64_t t) { return ring_.data() + (t % capacity_) * row_size_; }
  void allocate(int64_t rows) override {
    capacity_ = std::max<int64_t>(rows, 1);
    ring_ = AlignedArray<T>((capacity_ + 1) * row_size_ + read_ahead_);  // and one row of zeros
  }

 private:
  size_t row_size_, read_ahead_;
  int64_t capacity_ = 0;
  AlignedArray<T> ring_;
};

// A feature map: rows of (width + 5) pixels of `channels` values (kernels.h).
template <class T>
class MapStage : public RingStage<T> {
 public:
  MapStage(int level, int width, int channels)
      : RingStage<T>(level, static_cast<size_t>(width + 5) * channels, static_cast<size_t>(kReadAhead) * channels),
        width(width),
        channels(channels) {}
  const int width, channels;
};

inline int64_t rows_with_halo(const Stage* input) {
  return input->done() ? input->total() : std::max<int64_t>(input->produced() - 1, 0);
}

class InputStage : public RingStage<float> {
 public:
  explicit InputStage(int width) : RingStage<float>(0, width + 3) {}
  int64_t ready() const override { return produced(); }
  std::vector<const Stage*> inputs() const override { return {}; }
  int64_t oldest_needed(const Stage*) const override { return 0; }
  void run(int64_t, int64_t, ThreadPool&) override {}
};

template <class T>
class StemStage : public MapStage<T> {
 public:
  StemStage(const InputStage* input, int width, int channels, const TypedKernels<T>& kernels, const float* weights,
            const float* bias)
      : MapStage<T>(0, width, channels), input_(input), kernels_(kernels), weights_(weights), bias_(bias) {}
  int64_t ready() const override { return rows_with_halo(input_); }
  std::vector<const Stage*> inputs() const override { return {input_}; }
  int64_t oldest_needed(const Stage*) const override { return this->produced() - 1; }
  void run(int64_t first, int64_t last, ThreadPool& pool) override {
    pool.run(static_cast<int>(last - first), [&](int i) {
      const int64_t t = first + i;
      kernels_.stem({{input_->row(t - 1), input_->row(t), input_->row(t + 1)},
                     weights_,
                     bias_,
                     this->writable(t),
                     this->width,
                     this->channels});
    });
  }

 private:
  const InputStage* input_;
  const TypedKernels<T>& kernels_;
  const float *weights_, *bias_;
};

// 3x3 convolution with bias and ReLU, and a residual where there is one. Rows are made in pairs at even t:
// a pair's arithmetic never depends on where the sequence was cut.
template <class T>
class ConvStage : public MapStage<T> {
 public:
  ConvStage(const MapStage<T>* input, const MapStage<T>* residual, const TypedKernels<T>& kernels,
            const ConvWeights<T>& weights)
      : MapStage<T>(input->level(), input->width, input->channels),
        input_(input),
        residual_(residual),
        kernels_(kernels),
        weights_(weights) {}

  // Holds this stage back until `pacer`, one level down, is near: what this stage makes would only wait.
  void pace(const Stage* pacer) { pacer_ = pacer; }
  // Rows one by one where a pair is not to be had yet; to the bit what the pair would have given.
  void allow_single_rows() { single_ = true; }

  int64_t ready() const override {
    int64_t rows = rows_with_halo(input_);
    if (residual_) rows = std::min(rows, residual_->produced());
    if (pacer_ && !pacer_->done()) rows = std::min(rows, 2 * pacer_->produced() + kAhead);
    return single_ || rows == this->total() ? rows : rows / 2 * 2;
  }
  std::vector<const Stage*> inputs() const override {
    if (residual_) return {input_, residual_};
    return {input_};
  }
  int64_t oldest_needed(const Stage* input) const override {
    return input == input_ ? this->produced() - 1 : this->produced();
  }
  void run(int64_t first, int64_t last, ThreadPool& pool) override {
    const int64_t pairs = first / 2;
    pool.run(static_cast<int>((last + 1) / 2 - pairs), [&](int i) {
      const int64_t t = 2 * (pairs + i);
      const bool upper = t >= first, lower = t + 1 < last;
      // The upper row does not depend on row t + 2, nor the lower one on t - 1: what is not there, or no more, is zero.
      kernels_.conv3x3(
          {{input_->row(upper ? t - 1 : -1), input_->row(t), input_->row(t + 1),
            input_->row(lower || !single_ ? t + 2 : -1)},
           {residual_ && upper ? residual_->row(t) : nullptr, residual_ && lower ? residual_->row(t + 1) : nullptr},
           {upper ? this->writable(t) : nullptr, lower ? this->writable(t + 1) : nullptr},
           this->width,
           this->channels,
           weights_.weights.data(),
           weights_.bias.data(),
           true,
           weights_.blocks});
    });
  }

 private:
  // Four convolutions stand between a paced stage and the gate; each lags at most two rows.
  static constexpr int64_t kAhead = 16;
  const MapStage<T>*input_, *residual_;
  const TypedKernels<T>& kernels_;
  const ConvWeights<T>& weights_;
  const Stage* pacer_ = nullptr;
  bool single_ = false;
};

template <class T>
class PoolStage : public MapStage<T> {
 public:
  // Live: it waits for no group.
  PoolStage(const MapStage<T>* input, const TypedKernels<T>& kernels, bool live)
      : MapStage<T>(input->level() + 1, input->width / 2, input->channels),
        input_(input),
        kernels_(kernels),
        group_(live ? 1 : rows_together(this->level())) {}
  int64_t ready() const override {
    const int64_t rows = input_->produced() / 2;
    return input_->done() ? rows : rows / group_ * group_;
  }
  std::vector<const Stage*> inputs() const override { return {input_}; }
  int64_t oldest_needed(const Stage*) const override { return 2 * this->produced(); }
  void run(int64_t first, int64_t last, ThreadPool& pool) override {
    pool.run(static_cast<int>(last - first), [&](int i) {
      const int64_t t = first + i;
      kernels_.pool(input_->row(2 * t), input_->row(2 * t + 1), this->writable(t), input_->width, this->channels);
    });
  }

 private:
  const MapStage<T>* input_;
  const TypedKernels<T>& kernels_;
  const int64_t group_;
};

template <class T>
class UpsampleAddStage : public MapStage<T> {
 public:
  UpsampleAddStage(const MapStage<T>* skip, const MapStage<T>* low, const TypedKernels<T>& kernels)
      : MapStage<T>(skip->level(), skip->width, skip->channels), skip_(skip), low_(low), kernels_(kernels) {}
  int64_t ready() const override { return std::min(skip_->produced(), 2 * low_->produced()); }
  std::vector<const Stage*> inputs() const override { return {skip_, low_}; }
  int64_t oldest_needed(const Stage* input) const override {
    return input == skip_ ? this->produced() : this->produced() / 2;
  }
  void run(int64_t first, int64_t last, ThreadPool& pool) override {
    pool.run(static_cast<int>(last - first), [&](int i) {
      const int64_t t = first + i;
      kernels_.upsample_add(skip_->row(t), low_->row(t / 2), this->writable(t), this->width, this->channels);
    });
  }

 private:
  const MapStage<T>*skip_, *low_;
  const TypedKernels<T>& kernels_;
};

// The 1x1 projection of the hourglass's low path: it commutes with the upsampling, so it runs on a quarter
// of the pixels. Rows of (width, columns) floats without padding.
template <class T>
class ProjectStage : public RingStage<float> {
 public:
  ProjectStage(const MapStage<T>* input, const TypedKernels<T>& kernels, const void* weights, int columns)
      : RingStage<float>(input->level(), static_cast<size_t>(input->width) * columns),
        input_(input),
        kernels_(kernels),
        weights_(weights),
        columns_(columns) {}
  int64_t ready() const override { return input_->produced(); }
  std::vector<const Stage*> inputs() const override { return {input_}; }
  int64_t oldest_needed(const Stage*) const override { return produced(); }
  void run(int64_t first, int64_t last, ThreadPool& pool) override {
    pool.run(static_cast<int>(last - first), [&](int i) {
      const int64_t t = first + i;
      kernels_.dense({input_->row(t) + input_->channels, input_->channels, weights_, nullptr, writable(t), columns_,
                      input_->width, input_->channels, columns_, false});
    });
  }

 private:
  const MapStage<T>* input_;
  const TypedKernels<T>& kernels_;
  const void* weights_;
  int columns_;
};

// A = (1 + M) * F and the maximum over groups of mel bands: rows of (width / pooling, channels).
template <class T>
class GateStage : public RingStage<VectorOf<T>> {
 public:
  GateStage(const MapStage<T>* features, const MapStage<T>* skip, const RingStage<float>* low,
            const TypedKernels<T>& kernels, const void* weights, const float* bias, int pooling,
            const float* features_step, const float* skip_step)
      : RingStage<VectorOf<T>>(0, static_cast<size_t>(features->width / pooling) * features->channels),
        features_(features),
        skip_(skip),
        low_(low),
        kernels_(kernels),
        weights_(weights),
        bias_(bias),
        pooling_(pooling),
        features_step_(features_step),
        skip_step_(skip_step) {}
  int64_t ready() const override {
    int64_t rows = features_->produced();
    if (skip_) rows = std::min(rows, skip_->produced());
    if (low_) rows = std::min(rows, 2 * low_->produced());
    return rows;
  }
  std::vector<const Stage*> inputs() const override {
    std::vector<const Stage*> all{features_};
    if (skip_) all.push_back(skip_);
    if (low_) all.push_back(low_);
    return all;
  }
  int64_t oldest_needed(const Stage* input) const override {
    return input == low_ ? this->produced() / 2 : this->produced();
  }
  void run(int64_t first, int64_t last, ThreadPool& pool) override {
    pool.run(static_cast<int>(last - first), [&](int i) {
      const int64_t t = first + i;
      kernels_.gate({skip_ ? skip_->row(t) : nullptr, weights_, bias_, low_ ? low_->row(t / 2) : nullptr,
                     features_->row(t), this->writable(t), features_->width, features_->channels, pooling_, masks(t),
                     features_step_, skip_step_});
    });
  }

  bool has_masks() const { return skip_ != nullptr; }
  // For checks: M of the `rows` rows made last is kept from now on; 0 ends it.
  void keep_masks(int64_t rows) {
    kept_ = rows;
    masks_.resize(static_cast<size_t>(rows) * features_->width * features_->channels);
  }
  // M of row t, (width, channels); null unless it is kept.
  float* masks(int64_t t) {
    return kept_ ? masks_.data() + (t % kept_) * features_->width * features_->channels : nullptr;
  }

 private:
  const MapStage<T>*features_, *skip_;
  const RingStage<float>* low_;
  const TypedKernels<T>& kernels_;
  const void* weights_;
  const float* bias_;
  int pooling_;
  const float *features_step_, *skip_step_;  // of 8-bit maps, see GateRow
  std::vector<float> masks_;
  int64_t kept_ = 0;
};

}  // namespace mtfa
