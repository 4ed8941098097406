// The trunk's weights in the type and order that its kernels read: batch norm folded, 3x3 filters transformed.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "core/int8.h"
#include "core/pack.h"
#include "core/pack_int8.h"
#include "core/trunk.h"
#include "core/typed_kernels.h"

namespace mtfa {

constexpr int kDepth = 3;  // poolings of the hourglass
constexpr char kMaskBranch[] = "attention.mask";

inline float to_float(float x) { return x; }
inline float to_float(uint8_t x) { return x; }

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
  using V = VectorOf<T>;
  static constexpr bool kInt8 = std::is_same_v<T, uint8_t>;

  TypedTrunkWeights(const NetworkShape& shape, const Tensors& tensors, const Kernels& kernels,
                    const TypedKernels<T>& typed)
      : shape(shape),
        kernels(kernels),
        typed(typed),
        channels(kInt8 ? int8_channels(shape.channels) : padded_channels(shape.channels)) {
    const int c = shape.channels;
    const float* stem_weight = tensors.get("stem.conv.weight", {c, 1, 3, 3});
    stem = AlignedArray<float>(9 * channels);
    for (int tap = 0; tap < 9; ++tap) {
      for (int n = 0; n < c; ++n) stem[tap * channels + n] = stem_weight[n * 9 + tap];
    }
    stem_bias = pack_vector(tensors.get("stem.conv.bias", {c}), c, channels);
    if constexpr (kInt8) {
      const float* step = steps_of(tensors, "stem");
      for (int i = 0; i < 9 * channels; ++i) stem[i] /= i % channels < c ? step[i % channels] : 1;
      for (int n = 0; n < c; ++n) stem_bias[n] /= step[n];
    }
    std::string skip, low, features_in = "stem";  // the maps that meet in the gate
    std::vector<std::string> sums;
    for (int i = 0; i < 2; ++i) {
      const std::string name = "attention.features." + std::to_string(i);
      features[i] = block(tensors, name, features_in);
      features_in = name;
    }
    if (shape.variant == Variant::resatt) {
      skip = "stem";
      for (int i = 0; i < 2; ++i) {
        const std::string name = kMaskBranch + ("." + std::to_string(i));
        mask[i] = block(tensors, name, skip);
        skip = name;
      }
    }
    if (shape.variant == Variant::mtfa) {
      std::string path = kMaskBranch, in = "stem";
      for (int i = 0; i < kDepth; ++i, path += ".inner") {
        hourglass[i] = {block(tensors, path + ".skip", in), block(tensors, path + ".low_in", in),
                        block(tensors, path + ".low_out", path + ".inner")};
        in = path + ".low_in";
        if (map_of(path + ".skip") == path) sums.push_back(path);
      }
      inner = block(tensors, path, in);
      skip = kMaskBranch + std::string(".skip"), low = kMaskBranch + std::string(".low_out");
    }
    if (shape.variant != Variant::res && shape.mask_projection) {
      projection = pack_projection(tensors, skip);
      if (kInt8 && !low.empty()) projection_of_low = pack_projection(tensors, low);
      projection_bias = pack_vector(tensors.get("attention.projection.bias", {c}), c, kernels.panel);
    }
    if constexpr (kInt8) {
      for (const auto& name : sums) steps_of(tensors, name);
      features_step = pack_vector(steps_of(tensors, features_in), c, channels);
      if (shape.variant != Variant::res && !shape.mask_projection)
        skip_step = pack_vector(steps_of(tensors, skip), c, channels);
    }
    pack_gru_input(tensors);
  }

  // The stage whose steps a stage's map has: those that are added have their sum's.
  std::string map_of(const std::string& stage) const {
    for (const std::string suffix : {".skip", ".low_out"}) {
      if (stage.size() <= suffix.size() || stage.compare(stage.size() - suffix.size(), suffix.size(), suffix) != 0)
        continue;
      const std::string sum = stage.substr(0, stage.size() - suffix.size());
      if (sum != kMaskBranch || !shape.mask_projection) return sum;
    }
    return stage;
  }

  const NetworkShape shape;
  const Kernels& kernels;
  const TypedKernels<T>& typed;
  const int channels;  // padded
  AlignedArray<float> stem, stem_bias;
  BlockWeights<T> features[2], mask[2], inner;
  HourglassWeights<T> hourglass[kDepth];
  AlignedArray<V> projection, projection_of_low;  // the second only where the maps' steps differ
  AlignedArray<float> projection_bias;
  AlignedArray<float> features_step, skip_step;     // of 8-bit maps that meet in the gate
  std::map<std::string, std::vector<float>> steps;  // of all 8-bit maps
  AlignedArray<V> gru_input;
  AlignedArray<float> gru_bias;
  int gru_depth = 0, gru_columns = 0;

  // From one gathered row to the next: a cache line more than their length, which is a multiple of 4 kB and would put
  // all rows of a tile into one set of the first-level cache.
  ptrdiff_t gathered_stride() const { return gru_depth + 64 / static_cast<ptrdiff_t>(sizeof(V)); }
  // Gathered rows (rows, gru_depth) -> the first layer's gates (rows, gru_columns).
  void project(const V* from, int rows, float* out, ThreadPool& pool) const {
    const int panel = kernels.panel;
    pool.run(gru_columns / panel, [&](int i) {
      const ptrdiff_t n = static_cast<ptrdiff_t>(i) * panel;
      typed_kernels<V>(kernels).dense({from, gathered_stride(), gru_input.data() + n * gru_depth, gru_bias.data() + n,
                                       out + n, gru_columns, rows, gru_depth, panel, false});
    });
  }

  void project_vectors(const float* vectors, int64_t frames, const FrameSink& sink, ThreadPool& pool) const override {
    const int count = shape.channels, bands = shape.mel_bands / shape.pooling;
    AlignedArray<V> rows(kBandRows * gathered_stride());
    for (int64_t first = 0; first < frames; first += kBandRows) {
      const int n = static_cast<int>(std::min<int64_t>(kBandRows, frames - first));
      pool.run(n, [&](int r) {
        const float* from = vectors + (first + r) * bands * count;
        V* to = rows.data() + r * gathered_stride();
        for (int i = 0; i < bands; ++i) {
          for (int c = 0; c < count; ++c) to[i * channels + c] = from_float<V>(from[i * count + c]);
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

  const float* steps_of(const Tensors& tensors, const std::string& stage) {
    const float* found = tensors.get_steps("int8.step." + map_of(stage), {shape.channels});
    steps[stage].assign(found, found + shape.channels);
    return found;
  }
  ConvWeights<T> conv(const Tensors& tensors, const std::string& name, const std::string& in, const std::string& out,
                      const std::string& residual) {
    const int c = shape.channels;
    const float* weight = tensors.get(name + ".weight", {c, c, 3, 3});
    const float* bias = tensors.get(name + ".bias", {c});
    if constexpr (kInt8) {
      const Int8Steps all{steps_of(tensors, in), tensors.get_steps("int8.transformed." + name, {kInt8Positions, c}),
                          steps_of(tensors, out), residual.empty() ? nullptr : steps_of(tensors, residual)};
      return pack_conv_int8(weight, bias, c, all, kernels);
    } else {
      return pack_conv<T>(weight, bias, c, ConvBlocks::rows2_columns4, kernels);
    }
  }
  BlockWeights<T> block(const Tensors& tensors, const std::string& name, const std::string& in) {
    const std::string middle = name + ".conv1";
    return {conv(tensors, middle, in, middle, ""), conv(tensors, name + ".conv2", middle, name, in)};
  }
  // For the map of `stage`: its steps are in the weights.
  AlignedArray<V> pack_projection(const Tensors& tensors, const std::string& stage) {
    const int c = shape.channels;
    auto matrix = transposed(tensors.get("attention.projection.weight", {c, c, 1, 1}), c, c);
    if constexpr (kInt8) {
      const float* step = steps_of(tensors, stage);
      for (int i = 0; i < c * c; ++i) matrix[i] *= step[i / c];
    }
    return pack_dense<V>(matrix, c, c, channels, kernels.panel);
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
    gru_input = pack_dense<V>(matrix, gru_depth, gru_columns, gru_depth, kernels.panel);
  }
};

}  // namespace mtfa
