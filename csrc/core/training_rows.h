// How training walks over feature maps: in bands of rows, each a task, with a ring of padded rows for a convolution.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/kernels/kernels.h"
#include "core/memory.h"
#include "core/pack.h"
#include "core/pointwise.h"
#include "core/thread_pool.h"
#include "core/winograd_filter.h"

namespace mtfa {

// Some rows [first, last) of one clip; `first` is even, so that the pairs of a convolution are the clip's own.
struct Band {
  int64_t index, clip_row, rows, first, last;
  int64_t row(int64_t t) const { return clip_row + t; }  // of the whole map
};

// Enough pixels to pay for the two rows that a band makes again and for its own sum of the weights' gradient, and the
// same bands for every number of threads.
constexpr int64_t kBandPixels = 8192;

inline int64_t band_rows(const MapShape& shape) { return std::max<int64_t>(kBandPixels / shape.width / 2 * 2, 2); }
inline int64_t bands_of_clip(const MapShape& shape) { return (shape.rows + band_rows(shape) - 1) / band_rows(shape); }
inline int64_t bands(const MapShape& shape) { return shape.batch * bands_of_clip(shape); }

template <class Run>
void for_each_band(const MapShape& shape, ThreadPool& pool, Run run) {
  const int64_t of_clip = bands_of_clip(shape), most = band_rows(shape);
  pool.run(static_cast<int>(bands(shape)), [&](int index) {
    const int64_t clip = index / of_clip, first = index % of_clip * most;
    run(Band{index, clip * shape.rows, shape.rows, first, std::min(first + most, shape.rows)});
  });
}

template <class Run>
void for_each_row(const MapShape& shape, ThreadPool& pool, Run run) {
  for_each_band(shape, pool, [&](const Band& band) {
    for (int64_t t = band.first; t < band.last; ++t) run(band.row(t));
  });
}

// The rows of one band that a convolution reads, with its zero padding around them (kernels.h).
template <class T>
class RowRing {
 public:
  RowRing(const MapShape& shape, int rows)
      : channels_(shape.channels),
        size_(static_cast<size_t>(shape.width + 5) * shape.channels),
        capacity_(rows),
        rows_(shape.rows),
        memory_((rows + 1) * size_ + static_cast<size_t>(kReadAhead) * shape.channels) {}

  // Has fill(row, to) make what is not there yet of rows first - 1 .. last, which are at most the capacity.
  template <class Fill>
  void advance(const Band& band, int64_t first, int64_t last, const Fill& fill) {
    if (made_ < first - 1) made_ = std::max<int64_t>(first - 1, 0);
    for (; made_ < std::min(last + 1, rows_); ++made_) fill(band.row(made_), at(made_) + channels_);
  }
  // A row of zeros outside the clip.
  const T* row(int64_t t) const {
    return t < 0 || t >= rows_ ? memory_.data() + capacity_ * size_ : memory_.data() + t % capacity_ * size_;
  }

 private:
  T* at(int64_t t) { return memory_.data() + t % capacity_ * size_; }
  int channels_;
  size_t size_;
  int64_t capacity_, rows_, made_ = -2;
  AlignedArray<T> memory_;
};

// Rows t, t + 1 of a convolution into a map without padding: the kernel's rows begin a pixel before it.
template <class T>
void convolve_pair(void (*conv)(const ConvRows<T>&), const ConvWeights<T>& weights, const RowRing<T>& in,
                   const MapShape& shape, const Band& band, int64_t t, T* map) {
  const int64_t values = int64_t{shape.width} * shape.channels;
  T* const out = map + band.row(t) * values - shape.channels;
  conv({{in.row(t - 1), in.row(t), in.row(t + 1), in.row(t + 2)},
        {nullptr, nullptr},
        {out, t + 1 < band.last ? out + values : nullptr},
        shape.width,
        shape.channels,
        weights.weights.data(),
        weights.bias.data(),
        false,
        weights.blocks});
}

// The weights' gradient (outputs, 3, 3, inputs) from the sums of Winograd's products over each band.
inline void weight_gradient(const float* sums, int64_t count, int channels, float* d_weight, ThreadPool& pool) {
  const auto in_time = filter_rows(kPoints2);
  const auto in_mel = filter_rows(kPoints4);
  const int64_t matrix = int64_t{channels} * channels, size = in_time.size() * in_mel.size() * matrix;
  pool.run(channels, [&](int k) {
    std::vector<double> total(static_cast<size_t>(channels)), filters(static_cast<size_t>(channels) * 9);
    int64_t position = k * int64_t{channels};
    for (const auto& rows : in_time) {
      for (const auto& columns : in_mel) {
        std::fill(total.begin(), total.end(), 0.0);
        for (int64_t band = 0; band < count; ++band) {
          const float* from = sums + band * size + position;
          for (int n = 0; n < channels; ++n) total[n] += from[n];
        }
        for (int tap = 0; tap < 9; ++tap) {
          const double factor = rows[tap / 3] * columns[tap % 3];
          double* to = filters.data() + static_cast<int64_t>(tap) * channels;
          for (int n = 0; n < channels; ++n) to[n] += factor * total[n];
        }
        position += matrix;
      }
    }
    for (int n = 0; n < channels; ++n) {
      for (int tap = 0; tap < 9; ++tap)
        d_weight[(int64_t{n} * 9 + tap) * channels + k] = static_cast<float>(filters[int64_t{tap} * channels + n]);
    }
  });
}

}  // namespace mtfa
