#include "core/pack_int8.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace mtfa {

namespace {

// Winograd's G for the points 0, 1, -1 and for 0, 1, -1, 2, -2, each with infinity: the filter's polynomial at a point
// over the products of its distances from the others.
constexpr double kRows[kInt8Rows][3] = {{-1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
constexpr double kColumns[kInt8Columns][3] = {{1.0 / 4, 0, 0},
                                              {-1.0 / 6, -1.0 / 6, -1.0 / 6},
                                              {-1.0 / 6, 1.0 / 6, -1.0 / 6},
                                              {1.0 / 24, 2.0 / 24, 4.0 / 24},
                                              {1.0 / 24, -2.0 / 24, 4.0 / 24},
                                              {0, 0, 1}};

double transformed(const float* g, int position) {
  double sum = 0;
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j)
      sum +=
          kRows[position / kInt8Columns][i] * kColumns[position % kInt8Columns][j] * static_cast<double>(g[3 * i + j]);
  }
  return sum;
}

}  // namespace

ConvWeights<uint8_t> pack_conv_int8(const float* weight, const float* bias, int channels, const Int8Steps& steps,
                                    const Kernels& kernels) {
  const int padded = int8_channels(channels), depth = round_up(padded, kernels.int8_depth), panel = kernels.panel;
  const size_t plane = static_cast<size_t>(kInt8Positions) * padded;
  AlignedArray<uint8_t> memory(int8_conv_bytes(padded, depth));
  int16_t* multipliers = reinterpret_cast<int16_t*>(memory.data());
  float* scales = reinterpret_cast<float*>(multipliers + plane);
  int32_t* starts = reinterpret_cast<int32_t*>(scales + plane);
  float* residual = reinterpret_cast<float*>(starts + plane);
  int8_t* matrices = reinterpret_cast<int8_t*>(residual + padded);

  std::vector<double> column(channels);
  for (int p = 0; p < kInt8Positions; ++p) {
    // The step that a multiplier of 15 bits makes of the wanted one.
    std::vector<double> step(channels);
    for (int k = 0; k < channels; ++k) {
      const double wanted = kInt8MultiplierOne * static_cast<double>(steps.in[k]) / steps.transformed[p * channels + k];
      const double multiplier = std::clamp(std::nearbyint(wanted), 1.0, 32767.0);
      multipliers[p * padded + k] = static_cast<int16_t>(multiplier);
      step[k] = kInt8MultiplierOne * static_cast<double>(steps.in[k]) / multiplier;
    }
    for (int n = 0; n < channels; ++n) {
      double largest = 0;
      for (int k = 0; k < channels; ++k) {
        column[k] = transformed(weight + (static_cast<size_t>(n) * channels + k) * 9, p) * step[k];
        largest = std::max(largest, std::fabs(column[k]));
      }
      const double unit = largest > 0 ? largest / kInt8WeightMax : 1;
      int32_t sum = 0;
      for (int k = 0; k < channels; ++k) {
        const int value = static_cast<int>(std::nearbyint(column[k] / unit));
        sum += value;
        const size_t place = (static_cast<size_t>(n / panel) * kInt8Positions + p) * depth * panel;
        matrices[place + (static_cast<size_t>(k / 4) * panel + n % panel) * 4 + k % 4] = static_cast<int8_t>(value);
      }
      scales[p * padded + n] = static_cast<float>(unit / steps.out[n]);
      starts[p * padded + n] = -128 * sum;
    }
  }
  std::vector<float> in_steps(channels);
  for (int n = 0; n < channels; ++n) {
    in_steps[n] = bias[n] / steps.out[n];
    if (steps.residual) residual[n] = steps.residual[n] / steps.out[n];
  }
  return {std::move(memory), pack_vector(in_steps.data(), channels, padded), ConvBlocks::rows2_columns4};
}

}  // namespace mtfa
