#include "core/trunk.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/live_shape.h"
#include "core/pack.h"
#include "core/row_stages.h"

namespace mtfa {

namespace {

constexpr int kDepth = 3;  // poolings of the hourglass

// M, which exists only while the kernel of the gate uses it.
constexpr char kMasks[] = "masks";

float to_float(float x) { return x; }

template <class T>
T from_float(float x) {
  if constexpr (std::is_same_v<T, Bf16>)
    return to_bf16(x);
  else
    return x;
}

template <class T>
struct BlockWeights {
  ConvWeights<T> conv1, conv2;
};

// hourglass[i]: the blocks at scale i; `inner` at the deepest.
template <class T>
struct HourglassWeights {
  BlockWeights<T> skip, low_in, low_out;
};

template <class T>
class TypedTrunkWeights : public TrunkWeights {
 public:
  TypedTrunkWeights(const NetworkShape& shape, const Tensors& tensors, const Kernels& kernels,
                    const TypedKernels<T>& typed)
      : shape(shape), kernels(kernels), typed(typed), channels(padded_channels(shape.channels)) {
    const int c = shape.channels;
    const float* stem_weight = tensors.get("stem.conv.weight", {c, 1, 3, 3});
    stem = AlignedArray<float>(9 * channels);
    for (int tap = 0; tap < 9; ++tap) {
      for (int n = 0; n < c; ++n) stem[tap * channels + n] = stem_weight[n * 9 + tap];
    }
    stem_bias = pack_vector(tensors.get("stem.conv.bias", {c}), c, channels);
    for (int i = 0; i < 2; ++i) features[i] = block(tensors, "attention.features." + std::to_string(i));
    if (shape.variant == Variant::resatt) {
      for (int i = 0; i < 2; ++i) mask[i] = block(tensors, "attention.mask." + std::to_string(i));
    }
    if (shape.variant == Variant::mtfa) {
      std::string path = "attention.mask";
      for (int i = 0; i < kDepth; ++i, path += ".inner") {
        hourglass[i] = {block(tensors, path + ".skip"), block(tensors, path + ".low_in"),
                        block(tensors, path + ".low_out")};
      }
      inner = block(tensors, path);
    }
    if (shape.variant != Variant::res && shape.mask_projection) {
      projection = pack_dense<T>(transposed(tensors.get("attention.projection.weight", {c, c, 1, 1}), c, c), c, c,
                                 channels, kernels.panel);
      projection_bias = pack_vector(tensors.get("attention.projection.bias", {c}), c, kernels.panel);
    }
    pack_gru_input(tensors);
  }

  const NetworkShape shape;
  const Kernels& kernels;
  const TypedKernels<T>& typed;
  const int channels;  // padded
  AlignedArray<float> stem, stem_bias;
  BlockWeights<T> features[2], mask[2], inner;
  HourglassWeights<T> hourglass[kDepth];
  AlignedArray<T> projection;
  AlignedArray<float> projection_bias;
  AlignedArray<T> gru_input;
  AlignedArray<float> gru_bias;
  int gru_depth = 0, gru_columns = 0;

  // From one gathered row to the next: a cache line more than their length, which is a multiple of 4 kB and would put
  // all rows of a tile into one set of the first-level cache.
  ptrdiff_t gathered_stride() const { return gru_depth + 64 / static_cast<ptrdiff_t>(sizeof(T)); }
  // Gathered rows (rows, gru_depth) -> the first layer's gates (rows, gru_columns).
  void project(const T* from, int rows, float* out, ThreadPool& pool) const {
    const int panel = kernels.panel;
    pool.run(gru_columns / panel, [&](int i) {
      const ptrdiff_t n = static_cast<ptrdiff_t>(i) * panel;
      typed.dense({from, gathered_stride(), gru_input.data() + n * gru_depth, gru_bias.data() + n, out + n, gru_columns,
                   rows, gru_depth, panel, false});
    });
  }

  void project_vectors(const float* vectors, int64_t frames, const FrameSink& sink, ThreadPool& pool) const override {
    const int count = shape.channels, bands = shape.mel_bands / shape.pooling;
    AlignedArray<T> rows(kBandRows * gathered_stride());
    for (int64_t first = 0; first < frames; first += kBandRows) {
      const int n = static_cast<int>(std::min<int64_t>(kBandRows, frames - first));
      pool.run(n, [&](int r) {
        const float* from = vectors + (first + r) * bands * count;
        T* to = rows.data() + r * gathered_stride();
        for (int i = 0; i < bands; ++i) {
          for (int c = 0; c < count; ++c) to[i * channels + c] = from_float<T>(from[i * count + c]);
        }
      });
      project(rows.data(), n, sink(first), pool);
    }
  }

 private:
  static std::vector<float> transposed(const float* matrix, int rows, int columns) {
    std::vector<float> out(static_cast<size_t>(rows) * columns);
    for (int r = 0; r < rows; ++r) {
      for (int c = 0; c < columns; ++c)
        out[static_cast<size_t>(c) * rows + r] = matrix[static_cast<size_t>(r) * columns + c];
    }
    return out;
  }

  ConvWeights<T> conv(const Tensors& tensors, const std::string& name) const {
    const int c = shape.channels;
    return pack_conv<T>(tensors.get(name + ".weight", {c, c, 3, 3}), tensors.get(name + ".bias", {c}), c,
                        ConvBlocks::rows2_columns4, kernels);
  }
  BlockWeights<T> block(const Tensors& tensors, const std::string& name) const {
    return {conv(tensors, name + ".conv1"), conv(tensors, name + ".conv2")};
  }

  // Both directions' input projections of the first layer as one matrix: (bands * channels, 6 * hidden).
  void pack_gru_input(const Tensors& tensors) {
    const int c = shape.channels, bands = shape.mel_bands / shape.pooling, hidden = shape.hidden;
    const int padded = round_up(hidden, kernels.gru_block);
    gru_depth = bands * channels;
    gru_columns = 6 * padded;
    std::vector<float> matrix(static_cast<size_t>(gru_depth) * gru_columns);
    gru_bias = AlignedArray<float>(gru_columns);
    for (int direction = 0; direction < 2; ++direction) {
      const std::string suffix = direction ? "_l0_reverse" : "_l0";
      const float* weight = tensors.get("gru.weight_ih" + suffix, {3 * hidden, bands * c});
      const float* bias = tensors.get("gru.bias_input" + suffix, {3 * hidden});
      for (int row = 0; row < 3 * hidden; ++row) {
        const int column = (3 * direction + row / hidden) * padded + row % hidden;
        gru_bias[column] = bias[row];
        for (int band = 0; band < bands; ++band) {
          for (int n = 0; n < c; ++n) {
            matrix[static_cast<size_t>(band * channels + n) * gru_columns + column] =
                weight[static_cast<size_t>(row) * bands * c + band * c + n];
          }
        }
      }
    }
    gru_input = pack_dense<T>(matrix, gru_depth, gru_columns, gru_depth, kernels.panel);
  }
};

// The last stage: rows of the gate times the GRU's input weights, into the caller's memory.
template <class T>
class GruInputStage : public Stage {
 public:
  GruInputStage(const RingStage<T>* input, const TypedTrunkWeights<T>& weights, FrameSink sink, bool live)
      : Stage(0), input_(input), weights_(weights), sink_(std::move(sink)), group_(live ? 1 : kBandRows) {}
  // Groups of a whole band use each weight often while it is in the cache.
  int64_t ready() const override { return input_->done() ? input_->total() : input_->produced() / group_ * group_; }
  std::vector<const Stage*> inputs() const override { return {input_}; }
  int64_t oldest_needed(const Stage*) const override { return produced(); }
  void allocate(int64_t) override { gathered_ = AlignedArray<T>(kBandRows * weights_.gathered_stride()); }
  void run(int64_t first, int64_t last, ThreadPool& pool) override {
    // Rows stand apart by the ring's stride only within one turn of the ring; gather them.
    const int rows = static_cast<int>(last - first);
    for (int r = 0; r < rows; ++r)
      std::copy_n(input_->row(first + r), weights_.gru_depth, gathered_.data() + r * weights_.gathered_stride());
    weights_.project(gathered_.data(), rows, sink_(first), pool);
  }

 private:
  const RingStage<T>* input_;
  const TypedTrunkWeights<T>& weights_;
  FrameSink sink_;
  const int64_t group_;
  AlignedArray<T> gathered_;
};

template <class T>
class TypedTrunk : public Trunk {
 public:
  TypedTrunk(std::shared_ptr<const TypedTrunkWeights<T>> weights, FrameSink sink, const LiveShape* live)
      : weights_(std::move(weights)), live_(live != nullptr) {
    const TypedTrunkWeights<T>& w = *weights_;
    const int bands = w.shape.mel_bands;
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
        projected = pipeline_.add<ProjectStage<T>>(low, w.typed, w.projection.data(), projection_columns());
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
                                        w.shape.pooling);
    if (gate_->has_masks()) taps_.push_back({kMasks, gate_, bands, 0});
    taps_.push_back({"gate", gate_, bands / w.shape.pooling, 0});
    pipeline_.add<GruInputStage<T>>(gate_, w, std::move(sink), live_);
    if (live) {
      lag_ = (pipeline_.lag() + kFrameStep - 1) / kFrameStep * kFrameStep;
      schedule_ = live->schedule(lag_);
    }
    pipeline_.plan(schedule_);
  }

  float* next_input(int64_t offset) override { return input_->writable(input_->produced() + offset) + 1; }
  void push(int64_t rows, ThreadPool& pool) override { pipeline_.push(rows, pool); }
  void finish(ThreadPool& pool) override { pipeline_.finish(pool); }
  const Schedule& schedule() const override { return schedule_; }
  int64_t lag() const override { return lag_; }
  void reset() override {
    pipeline_.reset();
    pipeline_.watch(nullptr, nullptr);
    gate_->keep_masks(0);
  }

  std::vector<std::string> stage_names() const override {
    std::vector<std::string> names;
    for (const Tap& tap : taps_) names.push_back(tap.name);
    return names;
  }
  void watch(const std::string& name, RowWatch seen) override {
    const auto found = std::find_if(taps_.begin(), taps_.end(), [&](const Tap& tap) { return tap.name == name; });
    if (found == taps_.end()) throw std::invalid_argument("stage: got " + name + ", allowed: those of stage_names()");
    const bool masks = name == kMasks;
    if (masks) gate_->keep_masks(kBandRows);
    pipeline_.watch(found->stage, [this, masks, tap = *found, seen = std::move(seen)](int64_t first, int64_t last) {
      const int channels = weights_->channels, count = weights_->shape.channels;
      std::vector<float> row(static_cast<size_t>(tap.width) * count);
      const auto show = [&](const auto* from) {
        for (int x = 0; x < tap.width; ++x) {
          for (int n = 0; n < count; ++n) row[static_cast<size_t>(x) * count + n] = to_float(from[x * channels + n]);
        }
        seen(row.data(), tap.width, count);
      };
      for (int64_t t = first; t < last; ++t) {
        if (masks)
          show(gate_->masks(t));
        else
          show(tap.stage->row(t) + static_cast<ptrdiff_t>(tap.lead) * channels);
      }
    });
  }

 private:
  struct Tap {
    std::string name;
    const RingStage<T>* stage;
    int width, lead;  // pixels, and those before the first
  };

  const MapStage<T>* named(const std::string& name, const MapStage<T>* stage) {
    taps_.push_back({name, stage, stage->width, 1});
    return stage;
  }

  int projection_columns() const { return round_up(weights_->channels, weights_->kernels.panel); }

  const MapStage<T>* block(const std::string& name, const MapStage<T>* in, const BlockWeights<T>& w,
                           const Stage* pacer = nullptr) {
    auto* first = pipeline_.add<ConvStage<T>>(in, nullptr, weights_->typed, w.conv1);
    if (pacer) first->pace(pacer);
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
  GateStage<T>* gate_;
  std::vector<Tap> taps_;
};

}  // namespace

std::shared_ptr<const TrunkWeights> pack_trunk(const NetworkShape& shape, const Tensors& tensors,
                                               const Kernels& kernels, bool bf16) {
  if (bf16) return std::make_shared<TypedTrunkWeights<Bf16>>(shape, tensors, kernels, *kernels.bf16);
  return std::make_shared<TypedTrunkWeights<float>>(shape, tensors, kernels, kernels.fp32);
}

std::unique_ptr<Trunk> make_trunk(std::shared_ptr<const TrunkWeights> weights, FrameSink sink, const LiveShape* live) {
  if (auto typed = std::dynamic_pointer_cast<const TypedTrunkWeights<Bf16>>(weights)) {
    return std::make_unique<TypedTrunk<Bf16>>(std::move(typed), std::move(sink), live);
  }
  return std::make_unique<TypedTrunk<float>>(std::dynamic_pointer_cast<const TypedTrunkWeights<float>>(weights),
                                             std::move(sink), live);
}

}  // namespace mtfa
