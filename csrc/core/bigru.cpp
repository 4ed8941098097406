#include "core/bigru.h"

#include <algorithm>
#include <memory>

#include "core/pack.h"

namespace mtfa {

namespace {

constexpr int64_t kGroup = 64;  // frames of one task of a matrix product

}  // namespace

GruDirection GruDirection::pack(const float* weight_hh, const float* bias_new, int hidden, const Kernels& kernels) {
  return {pack_gru(weight_hh, hidden, kernels.gru_block), pack_vector(bias_new, hidden, kernels.gru_block)};
}

void GruDirection::run(int direction, float* const* gates, float* const* states, int64_t frames, int padded,
                       const Kernels& kernels, const float* initial, int64_t steps_before) const {
  kernels.gru({hidden.data(), bias_new.data(), gates, direction * 3 * padded, states, direction * padded, frames,
               padded, direction == 1, initial, steps_before});
}

GruInput GruInput::pack(const float* const weight[2], const float* const bias[2], int inputs, int hidden, bool from_gru,
                        const Kernels& kernels) {
  const int padded = round_up(hidden, kernels.gru_block);
  GruInput packed;
  packed.depth = from_gru ? 2 * padded : inputs;
  packed.columns = 6 * padded;
  packed.bias = AlignedArray<float>(packed.columns);
  std::vector<float> matrix(static_cast<size_t>(packed.depth) * packed.columns);
  for (int direction = 0; direction < 2; ++direction) {
    for (int row = 0; row < 3 * hidden; ++row) {
      const int column = (3 * direction + row / hidden) * padded + row % hidden;
      packed.bias[column] = bias[direction][row];
      for (int k = 0; k < inputs; ++k) {
        const int line = from_gru ? k / hidden * padded + k % hidden : k;
        matrix[static_cast<size_t>(line) * packed.columns + column] =
            weight[direction][static_cast<size_t>(row) * inputs + k];
      }
    }
  }
  packed.weights = pack_dense<float>(matrix, packed.depth, packed.columns, packed.depth, kernels.panel);
  return packed;
}

void GruInput::rows(const float* in, float* out, int count, const Kernels& kernels) const {
  kernels.fp32.dense({in, depth, weights.data(), bias.data(), out, columns, count, depth, columns, false});
}

BiGru::BiGru(const std::vector<std::array<GruTensors, 2>>& layers, int inputs, int hidden, const Kernels& kernels)
    : inputs_(inputs), hidden_(hidden), padded_(round_up(hidden, kernels.gru_block)), kernels_(kernels) {
  for (size_t index = 0; index < layers.size(); ++index) {
    Layer layer;
    std::vector<float> biases[2];
    for (int direction = 0; direction < 2; ++direction) {
      const GruTensors& t = layers[index][direction];
      biases[direction].assign(t.bias_ih, t.bias_ih + 3 * hidden);
      for (int i = 0; i < 2 * hidden; ++i) biases[direction][i] += t.bias_hh[i];
      layer.directions[direction] = GruDirection::pack(t.weight_hh, t.bias_hh + 2 * hidden, hidden, kernels);
    }
    const float* const weight[2] = {layers[index][0].weight_ih, layers[index][1].weight_ih};
    const float* const bias[2] = {biases[0].data(), biases[1].data()};
    layer.input = GruInput::pack(weight, bias, index ? 2 * hidden : inputs, hidden, index > 0, kernels);
    layers_.push_back(std::move(layer));
  }
}

void BiGru::run(const float* x, int64_t batch, int64_t frames, float* out, float* last, ThreadPool& pool) const {
  if (batch < 1) return;
  // Clips at a time: as many as give every thread a direction. The buffers stay small, the numbers the same.
  const int64_t clips = std::min<int64_t>((pool.size() + 1) / 2, batch);
  const int columns = 2 * padded_;
  const bool in_place = padded_ == hidden_;  // the states are then laid out as the output is
  const std::unique_ptr<float[]> gates(new float[clips * frames * 3 * columns]);
  const std::unique_ptr<float[]> own(in_place ? nullptr : new float[clips * frames * columns]);
  std::vector<float*> gate_rows(clips * frames), state_rows(clips * frames);
  for (int64_t first = 0; first < batch; first += clips) {
    const int64_t count = std::min(clips, batch - first), rows = count * frames;
    float* const states = in_place ? out + first * frames * columns : own.get();
    for (int64_t r = 0; r < rows; ++r) {
      gate_rows[r] = gates.get() + r * 3 * columns;
      state_rows[r] = states + r * columns;
    }
    for (size_t index = 0; index < layers_.size(); ++index) {
      const Layer& layer = layers_[index];
      // The states of the layer before have become gates when this layer's overwrite them.
      const float* in = index ? states : x + first * frames * inputs_;
      pool.run(static_cast<int>((rows + kGroup - 1) / kGroup), [&](int group) {
        const int64_t at = group * kGroup;
        layer.input.rows(in + at * layer.input.depth, gates.get() + at * 3 * columns,
                         static_cast<int>(std::min(kGroup, rows - at)), kernels_);
      });
      pool.run(static_cast<int>(2 * count), [&](int task) {
        const int64_t start = task / 2 * frames;
        layer.directions[task % 2].run(task % 2, gate_rows.data() + start, state_rows.data() + start, frames, padded_,
                                       kernels_);
      });
      for (int64_t clip = 0; clip < count; ++clip) {
        for (int direction = 0; direction < 2; ++direction) {
          const float* from = state_rows[clip * frames + (direction ? 0 : frames - 1)] + direction * padded_;
          std::copy_n(from, hidden_, last + ((2 * index + direction) * batch + first + clip) * hidden_);
        }
      }
    }
    if (in_place) continue;
    for (int64_t r = 0; r < rows; ++r) {
      float* to = out + (first * frames + r) * 2 * hidden_;
      std::copy_n(state_rows[r], hidden_, to);
      std::copy_n(state_rows[r] + padded_, hidden_, to + hidden_);
    }
  }
}

}  // namespace mtfa
