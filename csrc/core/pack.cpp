#include "core/pack.h"

#include <algorithm>
#include <type_traits>

#include "core/winograd_filter.h"

namespace mtfa {

namespace {

template <class T>
T convert(float x) {
  if constexpr (sizeof(T) == 2)
    return to_bf16(x);
  else
    return x;
}

template <class T>
void pack_into(const float* matrix, int rows, int columns, int depth, int panel, T* out) {
  constexpr int step = sizeof(T) == 2 ? 2 : 1;
  for (int k = 0; k < rows; ++k) {
    for (int n = 0; n < columns; ++n) {
      const size_t block = static_cast<size_t>(n / panel) * depth * panel;
      out[block + static_cast<size_t>(k / step) * panel * step + (n % panel) * step + k % step] =
          convert<T>(matrix[static_cast<size_t>(k) * columns + n]);
    }
  }
}

}  // namespace

template <class T>
AlignedArray<T> pack_dense(const std::vector<float>& matrix, int rows, int columns, int depth, int panel) {
  AlignedArray<T> out(static_cast<size_t>(depth) * round_up(columns, panel));
  pack_into<T>(matrix.data(), rows, columns, depth, panel, out.data());
  return out;
}

template <class T>
AlignedArray<T> pack_conv3x3(const float* weight, int channels, ConvBlocks blocks, int panel) {
  const auto rows2 = filter_rows(kPoints2);
  const auto rows4 = filter_rows(kPoints4);
  const bool wide = blocks == ConvBlocks::rows2_columns4;
  const int window = static_cast<int>(wide ? rows4.size() : rows2.size());
  constexpr int step = sizeof(T) == 2 ? 2 : 1;
  const int depth = padded_channels(channels);
  const size_t size = static_cast<size_t>(depth) * round_up(depth, panel);
  AlignedArray<T> out(rows2.size() * window * size);
  // For one input, in the order of outputs: the filters, and one row of their products.
  std::vector<double> filters(static_cast<size_t>(9) * channels), columns(static_cast<size_t>(3) * channels);
  for (int k = 0; k < channels; ++k) {
    for (int n = 0; n < channels; ++n) {
      for (int tap = 0; tap < 9; ++tap)
        filters[static_cast<size_t>(tap) * channels + n] = weight[(static_cast<size_t>(n) * channels + k) * 9 + tap];
    }
    T* to = out.data() + static_cast<size_t>(k / step) * panel * step + k % step;
    for (const auto& g : rows2) {
      for (size_t i = 0; i < columns.size(); ++i)
        columns[i] = g[0] * filters[i] + g[1] * filters[columns.size() + i] + g[2] * filters[2 * columns.size() + i];
      for (int position = 0; position < window; ++position, to += size) {
        const auto& h = wide ? rows4[position] : rows2[position];
        for (int first = 0; first < channels; first += panel) {
          T* const panel_row = to + static_cast<size_t>(first) * depth;
          const double* const c = columns.data() + first;
          for (int n = 0; n < std::min(panel, channels - first); ++n) {
            const double sum = h[0] * c[n] + h[1] * c[channels + n] + h[2] * c[2 * channels + n];
            panel_row[n * step] = convert<T>(static_cast<float>(sum));
          }
        }
      }
    }
  }
  return out;
}

AlignedArray<Bf16> pack_conv3x3_tiles(const float* weight, int channels) {
  const int padded = padded_channels(channels);
  AlignedArray<Bf16> out(static_cast<size_t>(9) * padded * padded);
  for (int n = 0; n < channels; ++n) {
    for (int k = 0; k < channels; ++k) {
      for (int tap = 0; tap < 9; ++tap) {
        const size_t tile = ((static_cast<size_t>(n / 32) * 9 + tap) * (padded / 32) + k / 32) * 2 + n % 32 / 16;
        out[tile * 512 + (k % 32 / 2) * 32 + (n % 16) * 2 + k % 2] =
            to_bf16(weight[(static_cast<size_t>(n) * channels + k) * 9 + tap]);
      }
    }
  }
  return out;
}

template <class T>
ConvWeights<T> pack_conv(const float* weight, const float* bias, int channels, ConvBlocks blocks,
                         const Kernels& kernels) {
  const auto packed = [&] {
    if constexpr (std::is_same_v<T, Bf16>) {
      if (kernels.tile_channels && padded_channels(channels) % kernels.tile_channels == 0)
        return pack_conv3x3_tiles(weight, channels);
    }
    return pack_conv3x3<T>(weight, channels, blocks, kernels.panel);
  };
  return {packed(), pack_vector(bias, channels, padded_channels(channels)), blocks};
}

AlignedArray<float> pack_vector(const float* vector, int n, int multiple) {
  AlignedArray<float> out(round_up(n, multiple));
  std::copy(vector, vector + n, out.data());
  return out;
}

AlignedArray<float> pack_gru(const float* weight_hh, int hidden, int block) {
  const int padded = round_up(hidden, block);
  AlignedArray<float> out(static_cast<size_t>(3) * padded * padded);
  for (int gate = 0; gate < 3; ++gate) {
    for (int unit = 0; unit < hidden; ++unit) {
      for (int k = 0; k < hidden; ++k) {
        const size_t start = static_cast<size_t>(unit / block) * block * 3 * padded;
        out[start + (static_cast<size_t>(k) * 3 + gate) * block + unit % block] =
            weight_hh[static_cast<size_t>(gate * hidden + unit) * hidden + k];
      }
    }
  }
  return out;
}

template AlignedArray<float> pack_dense<float>(const std::vector<float>&, int, int, int, int);
template AlignedArray<Bf16> pack_dense<Bf16>(const std::vector<float>&, int, int, int, int);
template AlignedArray<float> pack_conv3x3<float>(const float*, int, ConvBlocks, int);
template AlignedArray<Bf16> pack_conv3x3<Bf16>(const float*, int, ConvBlocks, int);
template ConvWeights<float> pack_conv<float>(const float*, const float*, int, ConvBlocks, const Kernels&);
template ConvWeights<Bf16> pack_conv<Bf16>(const float*, const float*, int, ConvBlocks, const Kernels&);

}  // namespace mtfa
