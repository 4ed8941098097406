#include "core/recurrent.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "core/pack.h"

namespace mtfa {

namespace {

constexpr int64_t kGroup = 64;  // frames of one task of a matrix product; divides FrameStore::kBlockFrames
constexpr int kHeadChain = 16;  // of the head's first product; it costs nothing

// sigmoid(x . weights + bias). In double: by what a logit is rounded, a small probability is off, and a trained network
// has logits of 9 and more.
float probability(const float* x, const float* weights, int count, float bias) {
  double sums[4] = {bias, 0, 0, 0};
  for (int k = 0; k < count; k += 4) {
    for (int i = 0; i < 4; ++i) sums[i] += static_cast<double>(x[k + i]) * weights[k + i];
  }
  return static_cast<float>(1 / (1 + std::exp(-((sums[0] + sums[1]) + (sums[2] + sums[3])))));
}

}  // namespace

float* FrameStore::row(int64_t frame) {
  const size_t block = static_cast<size_t>(frame / kBlockFrames);
  while (blocks_.size() <= block) blocks_.emplace_back(static_cast<size_t>(kBlockFrames) * columns_);
  return blocks_[block].data() + (frame % kBlockFrames) * columns_;
}

RecurrentWeights::RecurrentWeights(const NetworkShape& network, const Tensors& tensors, const Kernels& table)
    : shape(network), kernels(table), hidden(round_up(network.hidden, table.gru_block)) {
  const int h = shape.hidden, panel = kernels.panel;
  const float *input_weight[2] = {}, *input_bias[2] = {};
  for (int layer = 0; layer < 2; ++layer) {
    for (int direction = 0; direction < 2; ++direction) {
      const std::string suffix = "_l" + std::to_string(layer) + (direction ? "_reverse" : "");
      directions[layer][direction] = GruDirection::pack(tensors.get("gru.weight_hh" + suffix, {3 * h, h}),
                                                        tensors.get("gru.bias_new" + suffix, {h}), h, kernels);
      if (layer == 0) continue;  // its projection is the trunk's last stage
      input_weight[direction] = tensors.get("gru.weight_ih" + suffix, {3 * h, 2 * h});
      input_bias[direction] = tensors.get("gru.bias_input" + suffix, {3 * h});
    }
  }
  input1 = GruInput::pack(input_weight, input_bias, 2 * h, h, true, kernels);

  head_columns = round_up(h, panel);
  std::vector<float> first(static_cast<size_t>(2) * hidden * h);
  const float* weight = tensors.get("head.hidden.weight", {h, 2 * h});
  for (int n = 0; n < h; ++n) {
    for (int k = 0; k < 2 * h; ++k) first[static_cast<size_t>(k / h * hidden + k % h) * h + n] = weight[n * 2 * h + k];
  }
  head_output = AlignedArray<float>(static_cast<size_t>(shape.classes) * head_columns);
  weight = tensors.get("head.output.weight", {shape.classes, h});
  for (int n = 0; n < shape.classes; ++n) std::copy_n(weight + n * h, h, head_output.data() + n * head_columns);
  head_hidden = pack_dense<float>(first, 2 * hidden, h, 2 * hidden, panel);
  head_hidden_bias = pack_vector(tensors.get("head.hidden.bias", {h}), h, panel);
  head_output_bias = pack_vector(tensors.get("head.output.bias", {shape.classes}), shape.classes, 1);
}

void RecurrentWeights::project(const float* states, float* gates, int64_t rows, ThreadPool& pool) const {
  pool.run(static_cast<int>((rows + kGroup - 1) / kGroup), [&](int group) {
    const int64_t first = group * kGroup;
    input1.rows(states + first * 2 * hidden, gates + first * 6 * hidden,
                static_cast<int>(std::min(kGroup, rows - first)), kernels);
  });
}

void RecurrentWeights::head(const float* states, float* out, int64_t rows, ThreadPool& pool) const {
  const int classes = shape.classes;
  pool.run(static_cast<int>((rows + kGroup - 1) / kGroup), [&](int group) {
    const int64_t first = group * kGroup;
    const int count = static_cast<int>(std::min(kGroup, rows - first));
    std::vector<float> middle(static_cast<size_t>(count) * head_columns);
    kernels.fp32.dense({states + first * 2 * hidden, 2 * hidden, head_hidden.data(), head_hidden_bias.data(),
                        middle.data(), head_columns, count, 2 * hidden, head_columns, true, kHeadChain});
    for (int r = 0; r < count; ++r) {
      const float* row = middle.data() + static_cast<size_t>(r) * head_columns;
      for (int n = 0; n < classes; ++n) {
        out[(first + r) * classes + n] =
            probability(row, head_output.data() + n * head_columns, head_columns, head_output_bias.data()[n]);
      }
    }
  });
}

Recurrent::Recurrent(std::shared_ptr<const RecurrentWeights> weights)
    : weights_(std::move(weights)), gates_(6 * weights_->hidden), states_(2 * weights_->hidden) {}

void Recurrent::limit(MemoryLimit limit) {
  const int64_t block = FrameStore::kBlockFrames * (gates_.columns() + states_.columns()) * int64_t{sizeof(float)};
  most_frames_ = std::max<int64_t>(limit.bytes / block, 2) * FrameStore::kBlockFrames;
  folder_ = std::move(limit.folder);
}

float* Recurrent::projected(int64_t frame) {
  if (!spilled_ && frame >= most_frames_) {
    auto spilled = std::make_unique<SpilledRecurrent>(weights_, folder_);
    constexpr int64_t kBlock = FrameStore::kBlockFrames;
    for (int64_t first = 0; first < most_frames_; first += kBlock) {
      std::copy_n(gates_.row(first), kBlock * gates_.columns(), spilled->projected(first));
    }
    spilled_ = std::move(spilled);
    gates_.keep_blocks(0);
  }
  return spilled_ ? spilled_->projected(frame) : gates_.row(frame);
}

void Recurrent::layer(int index, int64_t frames, ThreadPool& pool) {
  const RecurrentWeights& w = *weights_;
  std::vector<float*> gates(frames), states(frames);
  for (int64_t t = 0; t < frames; ++t) gates[t] = gates_.row(t), states[t] = states_.row(t);
  pool.run(2, [&](int direction) {  // the backward direction stands behind the forward's in each row
    w.directions[index][direction].run(direction, gates.data(), states.data(), frames, w.hidden, w.kernels);
  });
}

void Recurrent::run(int64_t frames, int64_t count, float* out, ThreadPool& pool) {
  if (spilled_) return spilled_->run(frames, count, out, pool);
  const RecurrentWeights& w = *weights_;
  constexpr int64_t kBlock = FrameStore::kBlockFrames;  // rows of one block stand one after another
  layer(0, frames, pool);
  for (int64_t first = 0; first < frames; first += kBlock) {
    w.project(states_.row(first), gates_.row(first), std::min(kBlock, frames - first), pool);
  }
  layer(1, frames, pool);
  for (int64_t first = 0; first < count; first += kBlock) {
    w.head(states_.row(first), out + first * w.shape.classes, std::min(kBlock, count - first), pool);
  }
}

void Recurrent::shrink() {
  constexpr size_t kKept = 4;  // blocks: some 80 seconds
  gates_.keep_blocks(kKept);
  states_.keep_blocks(kKept);
  most_frames_ = INT64_MAX;
  spilled_.reset();
}

}  // namespace mtfa
