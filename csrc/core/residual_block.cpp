#include "core/residual_block.h"

#include <algorithm>

#include "core/pack.h"
#include "core/row_stages.h"
#include "core/typed_kernels.h"

namespace mtfa {

namespace {

// By itself an op owes its own error, which no layer before it hides: the blocks that err least.
constexpr ConvBlocks kBlocks = ConvBlocks::rows2_columns2;
constexpr size_t kIdle = 16;  // states kept for later calls

// Rows that the caller writes before push().
template <class T>
class InputMap : public MapStage<T> {
 public:
  InputMap(int width, int channels) : MapStage<T>(0, width, channels) {}
  int64_t ready() const override { return this->produced(); }
  std::vector<const Stage*> inputs() const override { return {}; }
  int64_t oldest_needed(const Stage*) const override { return 0; }
  void run(int64_t, int64_t, ThreadPool&) override {}

  // Row t from values (c, d) at from[c * channel + d * pixel].
  void fill(int64_t t, const T* from, int count, int64_t channel, int64_t pixel) {
    T* to = this->writable(t) + this->channels;
    if (channel == 1) {
      for (int d = 0; d < this->width; ++d) std::copy_n(from + d * pixel, count, to + int64_t{d} * this->channels);
      return;
    }
    for (int c = 0; c < count; ++c) {
      for (int d = 0; d < this->width; ++d) to[int64_t{d} * this->channels + c] = from[c * channel + d * pixel];
    }
  }
};

// The last stage: rows into the caller's map.
template <class T>
class OutputMap : public Stage {
 public:
  OutputMap(const MapStage<T>* input, int count) : Stage(0), input_(input), count_(count) {}
  void begin(T* out, int64_t channel, int64_t row, int64_t pixel) {
    out_ = out, channel_ = channel, row_ = row, pixel_ = pixel;
  }
  int64_t ready() const override { return input_->produced(); }
  std::vector<const Stage*> inputs() const override { return {input_}; }
  int64_t oldest_needed(const Stage*) const override { return produced(); }
  void allocate(int64_t) override {}
  void run(int64_t first, int64_t last, ThreadPool& pool) override {
    pool.run(static_cast<int>(last - first), [&](int i) {
      const T* from = input_->row(first + i) + input_->channels;
      T* to = out_ + (first + i) * row_;
      if (channel_ == 1) {
        for (int d = 0; d < input_->width; ++d)
          std::copy_n(from + int64_t{d} * input_->channels, count_, to + d * pixel_);
        return;
      }
      for (int c = 0; c < count_; ++c) {
        for (int d = 0; d < input_->width; ++d) to[c * channel_ + d * pixel_] = from[int64_t{d} * input_->channels + c];
      }
    });
  }

 private:
  const MapStage<T>* input_;
  int count_;
  T* out_ = nullptr;
  int64_t channel_ = 0, row_ = 0, pixel_ = 0;
};

}  // namespace

template <class T>
struct ResidualBlock<T>::State {
  State(const ResidualBlock& block, int width) {
    const TypedKernels<T>& kernels = typed_kernels<T>(block.kernels_);
    in = pipeline.add<InputMap<T>>(width, padded_channels(block.channels_));
    const auto* first = pipeline.add<ConvStage<T>>(in, nullptr, kernels, block.conv1_);
    const auto* second = pipeline.add<ConvStage<T>>(first, in, kernels, block.conv2_);
    out = pipeline.add<OutputMap<T>>(second, block.channels_);
    pipeline.plan();
  }
  Pipeline pipeline;
  InputMap<T>* in;
  OutputMap<T>* out;
};

template <class T>
ResidualBlock<T>::ResidualBlock(int channels, const float* w1, const float* b1, const float* w2, const float* b2,
                                const Kernels& kernels)
    : channels_(channels),
      kernels_(kernels),
      conv1_(pack_conv<T>(w1, b1, channels, kBlocks, kernels)),
      conv2_(pack_conv<T>(w2, b2, channels, kBlocks, kernels)) {
  typed_kernels<T>(kernels);  // refuses here and not in a run
}

template <class T>
ResidualBlock<T>::~ResidualBlock() = default;

template <class T>
std::unique_ptr<typename ResidualBlock<T>::State> ResidualBlock<T>::take(int width) const {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found =
        std::find_if(idle_.begin(), idle_.end(), [&](const auto& state) { return state->in->width == width; });
    if (found != idle_.end()) {
      auto state = std::move(*found);
      idle_.erase(found);
      return state;
    }
  }
  return std::make_unique<State>(*this, width);
}

template <class T>
void ResidualBlock<T>::give_back(std::unique_ptr<State> state) const {
  state->pipeline.reset();
  const std::lock_guard<std::mutex> lock(mutex_);
  if (idle_.size() == kIdle) idle_.erase(idle_.begin());
  idle_.push_back(std::move(state));
}

template <class T>
void ResidualBlock<T>::clip(const StridedMap<const T>& x, const StridedMap<T>& out, int64_t item, int64_t rows,
                            int width, ThreadPool& pool) const {
  auto state = take(width);
  const T* from = x.data + item * x.strides[0];
  state->out->begin(out.data + item * out.strides[0], out.strides[1], out.strides[2], out.strides[3]);
  for (int64_t first = 0; first < rows; first += kBandRows) {
    const int count = static_cast<int>(std::min<int64_t>(kBandRows, rows - first));
    pool.run(count, [&](int i) {
      state->in->fill(first + i, from + (first + i) * x.strides[2], channels_, x.strides[1], x.strides[3]);
    });
    state->pipeline.push(count, pool);
  }
  state->pipeline.finish(pool);
  give_back(std::move(state));
}

template <class T>
void ResidualBlock<T>::run(const StridedMap<const T>& x, const StridedMap<T>& out, int64_t batch, int64_t rows,
                           int width, ThreadPool& pool) const {
  if (batch < pool.size() || pool.size() == 1) {
    for (int64_t b = 0; b < batch; ++b) clip(x, out, b, rows, width, pool);
    return;
  }
  pool.run(static_cast<int>(batch), [&](int b) {
    ThreadPool alone(1);
    clip(x, out, b, rows, width, alone);
  });
}

template class ResidualBlock<float>;
template class ResidualBlock<Bf16>;

}  // namespace mtfa
