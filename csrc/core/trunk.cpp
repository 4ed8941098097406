#include "core/trunk.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/live_shape.h"
#include "core/row_stages.h"
#include "core/trunk_weights.h"

namespace mtfa {

namespace {

// M, which exists only while the kernel of the gate uses it.
constexpr char kMasks[] = "masks";

// The last stage: rows of the gate times the GRU's input weights, into the caller's memory.
template <class T>
class GruInputStage : public Stage {
 public:
  GruInputStage(const RingStage<VectorOf<T>>* input, const TypedTrunkWeights<T>& weights, FrameSink sink, bool live)
      : Stage(0), input_(input), weights_(weights), sink_(std::move(sink)), group_(live ? 1 : kBandRows) {}
  // Groups of a whole band use each weight often while it is in the cache.
  int64_t ready() const override { return input_->done() ? input_->total() : input_->produced() / group_ * group_; }
  std::vector<const Stage*> inputs() const override { return {input_}; }
  int64_t oldest_needed(const Stage*) const override { return produced(); }
  void allocate(int64_t) override { gathered_ = AlignedArray<VectorOf<T>>(kBandRows * weights_.gathered_stride()); }
  void run(int64_t first, int64_t last, ThreadPool& pool) override {
    // Rows stand apart by the ring's stride only within one turn of the ring; gather them.
    const int rows = static_cast<int>(last - first);
    for (int r = 0; r < rows; ++r)
      std::copy_n(input_->row(first + r), weights_.gru_depth, gathered_.data() + r * weights_.gathered_stride());
    float* out = sink_(first);
    weights_.project(gathered_.data(), rows, out, pool);
    if (lost_) std::fill_n(out, int64_t{rows} * weights_.gru_columns, std::numeric_limits<float>::quiet_NaN());
  }
  // Until `lost` is false again no frame is a number: the input had a value that is none, and maps cannot hold it.
  void lose(bool lost) { lost_ = lost; }

 private:
  bool lost_ = false;
  const RingStage<VectorOf<T>>* input_;
  const TypedTrunkWeights<T>& weights_;
  FrameSink sink_;
  const int64_t group_;
  AlignedArray<VectorOf<T>> gathered_;
};

template <class T>
class TypedTrunk : public Trunk {
 public:
  TypedTrunk(std::shared_ptr<const TypedTrunkWeights<T>> weights, FrameSink sink, const LiveShape* live)
      : weights_(std::move(weights)), live_(live != nullptr) {
    const TypedTrunkWeights<T>& w = *weights_;
    const int bands = bands_ = w.shape.mel_bands;
    input_ = pipeline_.add<InputStage>(bands);
    const auto* stem = named(
        "stem", pipeline_.add<StemStage<T>>(input_, bands, w.channels, w.typed, w.stem.data(), w.stem_bias.data()));
    const ProjectStage<T>* projected = nullptr;
    const MapStage<T>*skip = nullptr, *low = nullptr;
    const Stage* pacer = nullptr;
    if (w.shape.variant == Variant::mtfa) {
      low = low_path(stem, 0, "attention.mask");
      pacer = low;
      if (w.shape.mask_projection) {
        const auto& projection = w.projection_of_low.size() ? w.projection_of_low : w.projection;
        projected = pipeline_.add<ProjectStage<T>>(low, w.typed, projection.data(), projection_columns());
      }
      skip = block("attention.mask.skip", stem, w.hourglass[0].skip, pacer);
      if (!projected) skip = named("attention.mask", pipeline_.add<UpsampleAddStage<T>>(skip, low, w.typed));
    } else if (w.shape.variant == Variant::resatt) {
      skip = block("attention.mask.1", block("attention.mask.0", stem, w.mask[0]), w.mask[1]);
    }
    const MapStage<T>* features =
        block("attention.features.1", block("attention.features.0", stem, w.features[0], pacer), w.features[1]);
    gate_ = pipeline_.add<GateStage<T>>(features, skip, projected, w.typed,
                                        w.projection.size() ? w.projection.data() : nullptr, w.projection_bias.data(),
                                        w.shape.pooling, w.features_step.data(), w.skip_step.data());
    if (gate_->has_masks()) {
      taps_.push_back({kMasks, gate_, bands, [this](int64_t t, float* to) { show(gate_->masks(t), bands_, "", to); }});
    }
    taps_.push_back({"gate", gate_, bands / w.shape.pooling,
                     [this](int64_t t, float* to) { show(gate_->row(t), bands_ / weights_->shape.pooling, "", to); }});
    gru_input_ = pipeline_.add<GruInputStage<T>>(gate_, w, std::move(sink), live_);
    if (live) {
      lag_ = (pipeline_.lag() + kFrameStep - 1) / kFrameStep * kFrameStep;
      schedule_ = live->schedule(lag_);
    }
    pipeline_.plan(schedule_);
  }

  float* next_input(int64_t offset) override { return input_->writable(input_->produced() + offset) + 1; }
  void push(int64_t rows, ThreadPool& pool) override {
    if constexpr (std::is_same_v<T, uint8_t>) {
      for (int64_t t = input_->produced(); t < input_->produced() + rows; ++t) {
        const float* row = input_->row(t) + 1;
        if (!std::all_of(row, row + bands_, [](float x) { return std::isfinite(x); })) gru_input_->lose(true);
      }
    }
    pipeline_.push(rows, pool);
  }
  void finish(ThreadPool& pool) override { pipeline_.finish(pool); }
  const Schedule& schedule() const override { return schedule_; }
  int64_t lag() const override { return lag_; }
  void reset() override {
    pipeline_.reset();
    pipeline_.watch(nullptr, nullptr);
    gru_input_->lose(false);
    gate_->keep_masks(0);
  }

  std::vector<std::string> stage_names() const override {
    std::vector<std::string> names;
    for (const Tap& tap : taps_) {
      if (!tap.inner) names.push_back(tap.name);
    }
    return names;
  }
  std::vector<std::string> map_names() const override {
    std::vector<std::string> names;
    for (const Tap& tap : taps_) {
      if (tap.stage != gate_) names.push_back(tap.name);
    }
    return names;
  }
  void watch(const std::string& name, RowWatch seen) override {
    const auto found = std::find_if(taps_.begin(), taps_.end(), [&](const Tap& tap) { return tap.name == name; });
    if (found == taps_.end()) throw std::invalid_argument("stage: got " + name + ", allowed: those of stage_names()");
    const bool masks = name == kMasks;
    if (masks) gate_->keep_masks(kBandRows);
    pipeline_.watch(found->stage, [this, tap = *found, seen = std::move(seen)](int64_t first, int64_t last) {
      std::vector<float> row(static_cast<size_t>(tap.width) * weights_->shape.channels);
      for (int64_t t = first; t < last; ++t) {
        tap.read(t, row.data());
        seen(row.data(), tap.width, weights_->shape.channels);
      }
    });
  }

 private:
  struct Tap {
    std::string name;
    const Stage* stage;
    int width;                                       // pixels
    std::function<void(int64_t t, float* to)> read;  // row t, (width, channels)
    bool inner = false;                              // not the output of a module: not among stage_names()
  };

  // Pixels as floats without the channels that fill up a vector, in the steps of the 8-bit map `name`.
  template <class F>
  void show(const F* from, int width, const std::string& name, float* to) const {
    const int channels = weights_->channels, count = weights_->shape.channels;
    const auto steps = weights_->steps.find(name);
    for (int x = 0; x < width; ++x) {
      for (int n = 0; n < count; ++n) {
        const float step = steps == weights_->steps.end() ? 1 : steps->second[n];
        to[static_cast<size_t>(x) * count + n] = step * to_float(from[x * channels + n]);
      }
    }
  }
  const MapStage<T>* named(const std::string& name, const MapStage<T>* stage, bool inner = false) {
    const auto read = [this, name, stage](int64_t t, float* to) {
      show(stage->row(t) + weights_->channels, stage->width, name, to);
    };
    taps_.push_back({name, stage, stage->width, read, inner});
    return stage;
  }

  int projection_columns() const { return round_up(weights_->channels, weights_->kernels.panel); }

  const MapStage<T>* block(const std::string& name, const MapStage<T>* in, const BlockWeights<T>& w,
                           const Stage* pacer = nullptr) {
    auto* first = pipeline_.add<ConvStage<T>>(in, nullptr, weights_->typed, w.conv1);
    if (pacer) first->pace(pacer);
    named(name + ".conv1", first, true);
    auto* second = pipeline_.add<ConvStage<T>>(first, in, weights_->typed, w.conv2);
    if (live_ && in->level() >= kSingleRowsLevel) first->allow_single_rows(), second->allow_single_rows();
    return named(name, second);
  }

  // The path below scale i of the hourglass, from its input at scale i to its output at scale i + 1.
  const MapStage<T>* low_path(const MapStage<T>* in, int i, const std::string& name) {
    const HourglassWeights<T>& w = weights_->hourglass[i];
    const MapStage<T>* low = block(name + ".low_in", pipeline_.add<PoolStage<T>>(in, weights_->typed, live_), w.low_in);
    const std::string inner = name + ".inner";
    if (i + 1 < kDepth) {
      const MapStage<T>* deeper = low_path(low, i + 1, inner);
      const MapStage<T>* skip = block(inner + ".skip", low, weights_->hourglass[i + 1].skip, deeper);
      low = named(inner, pipeline_.add<UpsampleAddStage<T>>(skip, deeper, weights_->typed));
    } else {
      low = block(inner, low, weights_->inner);
    }
    return block(name + ".low_out", low, w.low_out);
  }

  std::shared_ptr<const TypedTrunkWeights<T>> weights_;
  const bool live_;
  Schedule schedule_;
  int64_t lag_ = 0;
  Pipeline pipeline_;
  InputStage* input_;
  int bands_ = 0;
  GateStage<T>* gate_;
  GruInputStage<T>* gru_input_;
  std::vector<Tap> taps_;
};

}  // namespace

std::shared_ptr<const TrunkWeights> pack_trunk(const NetworkShape& shape, const Tensors& tensors,
                                               const Kernels& kernels, Isa isa, Precision precision) {
  if (precision == Precision::int8)
    return std::make_shared<TypedTrunkWeights<uint8_t>>(shape, tensors, kernels, int8_kernels(isa).typed);
  if (precision == Precision::bf16)
    return std::make_shared<TypedTrunkWeights<Bf16>>(shape, tensors, kernels, *kernels.bf16);
  return std::make_shared<TypedTrunkWeights<float>>(shape, tensors, kernels, kernels.fp32);
}

std::unique_ptr<Trunk> make_trunk(std::shared_ptr<const TrunkWeights> weights, FrameSink sink, const LiveShape* live) {
  if (auto typed = std::dynamic_pointer_cast<const TypedTrunkWeights<uint8_t>>(weights)) {
    return std::make_unique<TypedTrunk<uint8_t>>(std::move(typed), std::move(sink), live);
  }
  if (auto typed = std::dynamic_pointer_cast<const TypedTrunkWeights<Bf16>>(weights)) {
    return std::make_unique<TypedTrunk<Bf16>>(std::move(typed), std::move(sink), live);
  }
  return std::make_unique<TypedTrunk<float>>(std::dynamic_pointer_cast<const TypedTrunkWeights<float>>(weights),
                                             std::move(sink), live);
}

}  // namespace mtfa
