#include "core/block_training.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "core/engine.h"
#include "core/kernels/block_training.h"
#include "core/memory.h"
#include "core/pack.h"
#include "core/training_rows.h"
#include "core/typed_kernels.h"

namespace mtfa {

namespace {

// Where products are of bf16, larger blocks err 2.7 times as much as torch, in gradients 3.9 times: too much.
template <class T>
constexpr ConvBlocks kBlocks = sizeof(T) == 2 ? ConvBlocks::rows2_columns2 : ConvBlocks::rows2_columns4;
constexpr int kPositions = 24;       // products of a block
constexpr int kBlocksTogether = 32;  // as many as the weight gradient's kernel takes at a time

template <class T>
BlockTrainingKernels<T> training_kernels(Isa isa) {
  const TrainingKernels kernels = MTFA_SELECT(isa, training_kernels)();
  if constexpr (std::is_same_v<T, float>)
    return kernels.fp32;
  else
    return kernels.bf16;
}

// A convolution's weights as its input's gradient uses them: turned by 180 degrees, outputs and inputs exchanged.
AlignedArray<float> turned(const float* weight, int channels) {
  AlignedArray<float> out(static_cast<size_t>(channels) * channels * 9);
  for (int n = 0; n < channels; ++n) {
    for (int k = 0; k < channels; ++k) {
      const float* from = weight + (static_cast<size_t>(n) * channels + k) * 9;
      std::reverse_copy(from, from + 9, out.data() + (static_cast<size_t>(k) * channels + n) * 9);
    }
  }
  return out;
}

// The two convolutions' weights without biases, for forward, or turned, for the way back.
template <class T>
ConvWeights<T> packed(const float* weight, int channels, bool turn, Isa isa) {
  const std::vector<float> bias(static_cast<size_t>(channels));
  AlignedArray<float> other;
  if (turn) weight = (other = turned(weight, channels)).data();
  return pack_conv<T>(weight, bias.data(), channels, kBlocks<T>, kernels_of(isa));
}

template <class T>
size_t map_bytes(const MapShape& shape) {
  return static_cast<size_t>(shape.batch * shape.rows) * shape.width * shape.channels * sizeof(T);
}

// out = the convolution of the rows that fill(row, to) makes; finish(row) sees each row of it while it is in the cache.
template <class T, class Fill, class Finish>
void convolve(const MapShape& shape, const ConvWeights<T>& weights, T* out, Isa isa, ThreadPool& pool, Fill fill,
              Finish finish) {
  const auto conv = typed_kernels<T>(kernels_of(isa)).conv3x3;
  want_large_pages(out, map_bytes<T>(shape));
  for_each_band(shape, pool, [&](const Band& band) {
    RowRing<T> in(shape, 4);
    for (int64_t t = band.first; t < band.last; t += 2) {
      in.advance(band, t, t + 2, fill);
      convolve_pair(conv, weights, in, shape, band, t, out);
      for (int64_t row = t; row < std::min(t + 2, band.last); ++row) finish(band.row(row));
    }
  });
}

// The way back through a convolution: d_in as convolve() makes it, of the rows that fill_grad makes and with turned
// weights, and the weights' gradient, of these and the rows that fill_in makes.
template <class T, class FillGrad, class FillIn, class Finish>
void convolve_back(const MapShape& shape, const ConvWeights<T>& weights, T* d_in, float* d_weight, Isa isa,
                   ThreadPool& pool, FillGrad fill_grad, FillIn fill_in, Finish finish) {
  const auto conv = typed_kernels<T>(kernels_of(isa)).conv3x3;
  const auto add = training_kernels<T>(isa).weight_gradient;
  want_large_pages(d_in, map_bytes<T>(shape));
  const size_t size = static_cast<size_t>(kPositions) * shape.channels * shape.channels;
  const std::unique_ptr<float[]> sums(new float[static_cast<size_t>(bands(shape)) * size]);
  const int pairs = std::max(kBlocksTogether / ((shape.width + 3) / 4), 1);
  for_each_band(shape, pool, [&](const Band& band) {
    RowRing<T> grad(shape, 2 * pairs + 2), in(shape, 2 * pairs + 2);
    float* const own = sums.get() + band.index * size;
    std::memset(own, 0, size * sizeof(float));
    std::vector<const T*> in_rows(4 * pairs), grad_rows(2 * pairs);
    for (int64_t first = band.first; first < band.last; first += 2 * pairs) {
      const int64_t last = std::min(first + 2 * pairs, band.last);
      const int count = static_cast<int>((last - first + 1) / 2);
      grad.advance(band, first, last, fill_grad);
      in.advance(band, first, last, fill_in);
      for (int pair = 0; pair < count; ++pair) {
        const int64_t t = first + 2 * pair;
        for (int i = 0; i < 4; ++i) in_rows[4 * pair + i] = in.row(t - 1 + i);
        for (int i = 0; i < 2; ++i) grad_rows[2 * pair + i] = grad.row(t + i);
      }
      add({in_rows.data(), grad_rows.data(), count, shape.width, shape.channels, own});
      for (int64_t t = first; t < last; t += 2) {
        convolve_pair(conv, weights, grad, shape, band, t, d_in);
        for (int64_t row = t; row < std::min(t + 2, last); ++row) finish(band.row(row));
      }
    }
  });
  weight_gradient(sums.get(), bands(shape), shape.channels, d_weight, pool);
}

// For each channel the sum over rows in their order of what term(row, channel) gives, all in double.
template <class Term>
std::vector<double> over_rows(const MapShape& shape, Term term) {
  std::vector<double> sums(static_cast<size_t>(shape.channels));
  for (int64_t row = 0; row < shape.batch * shape.rows; ++row) {
    for (int c = 0; c < shape.channels; ++c) sums[c] += term(row, c);
  }
  return sums;
}

// Two numbers for each row and channel of a map.
class RowSums {
 public:
  explicit RowSums(const MapShape& shape)
      : shape_(shape), values_(static_cast<size_t>(shape.batch * shape.rows) * 2 * shape.channels) {}
  float* first(int64_t row) { return values_.data() + row * 2 * shape_.channels; }
  float* second(int64_t row) { return first(row) + shape_.channels; }
  std::vector<double> total(int which) const {
    const int64_t stride = 2 * shape_.channels, at = which * shape_.channels;
    return over_rows(shape_, [&](int64_t row, int c) { return values_[row * stride + at + c]; });
  }

 private:
  const MapShape shape_;
  AlignedArray<float> values_;
};

// Mean and variance of a map from its rows' means and sums of squares about them.
void statistics_of(const MapShape& shape, RowSums& rows, float* mean, float* variance) {
  const double count = static_cast<double>(shape.batch * shape.rows);
  std::vector<double> middle = rows.total(0);
  for (double& value : middle) value /= count;
  const std::vector<double> squares = over_rows(shape, [&](int64_t row, int c) {
    const double distance = rows.first(row)[c] - middle[c];
    return rows.second(row)[c] + shape.width * distance * distance;
  });
  for (int c = 0; c < shape.channels; ++c) {
    mean[c] = static_cast<float>(middle[c]);
    variance[c] = static_cast<float>(squares[c] / (count * shape.width));
  }
}

// One norm of the block: what it multiplies by and adds.
struct Norm {
  Norm(int channels, const float* norm, const float* statistics, double epsilon)
      : weight(norm), mean(statistics), scale(channels), shift(channels), deviation(channels) {
    for (int c = 0; c < channels; ++c) {
      deviation[c] = std::sqrt(statistics[channels + c] + epsilon);
      const double factor = norm[c] / deviation[c];
      scale[c] = static_cast<float>(factor);
      shift[c] = static_cast<float>(norm[channels + c] - statistics[c] * factor);
    }
  }

  // norm_gradient's vectors from the sums of dz and of dz * (y - mean) over the map; d_norm gets scale's and shift's
  // gradients.
  std::vector<float> gradient(const MapShape& shape, const RowSums& sums, float* d_norm) const {
    const int channels = shape.channels;
    const double count = static_cast<double>(shape.batch * shape.rows) * shape.width;
    const std::vector<double> sum = sums.total(0), product = sums.total(1);
    std::vector<float> vectors(static_cast<size_t>(4 * channels));
    for (int c = 0; c < channels; ++c) {
      const double factor = weight[c] / deviation[c];
      d_norm[c] = static_cast<float>(product[c] / deviation[c]);
      d_norm[channels + c] = static_cast<float>(sum[c]);
      vectors[c] = static_cast<float>(factor);
      vectors[channels + c] = static_cast<float>(-factor * product[c] / (deviation[c] * deviation[c] * count));
      vectors[2 * channels + c] = static_cast<float>(-factor * sum[c] / count);
      vectors[3 * channels + c] = mean[c];
    }
    return vectors;
  }

  const float *weight, *mean;
  std::vector<float> scale, shift;
  std::vector<double> deviation;
};

template <class T>
auto copy_of(const T* map, int64_t values) {
  return [=](int64_t row, T* to) { std::copy_n(map + row * values, values, to); };
}

constexpr auto kNothing = [](int64_t) {};

}  // namespace

template <class T>
void conv3x3(const T* x, const float* weight, T* out, const MapShape& shape, Isa isa, ThreadPool& pool) {
  const int64_t values = int64_t{shape.width} * shape.channels;
  convolve(shape, packed<T>(weight, shape.channels, false, isa), out, isa, pool, copy_of(x, values), kNothing);
}

template <class T>
void conv3x3_backward(const T* grad, const T* x, const float* weight, T* d_x, float* d_weight, const MapShape& shape,
                      Isa isa, ThreadPool& pool) {
  const int64_t values = int64_t{shape.width} * shape.channels;
  convolve_back(shape, packed<T>(weight, shape.channels, true, isa), d_x, d_weight, isa, pool, copy_of(grad, values),
                copy_of(x, values), kNothing);
}

template <class T>
void BlockTraining<T>::forward(const T* x, T* y1, T* y2, T* out, float* statistics, ThreadPool& pool) const {
  const auto kernels = training_kernels<T>(isa);
  const int channels = shape.channels, width = shape.width;
  const int64_t values = int64_t{width} * channels;
  RowSums rows(shape);
  const auto moments = [&](const T* map) {
    return [&, map](int64_t row) {
      kernels.moments(map + row * values, width, channels, rows.first(row), rows.second(row));
    };
  };
  convolve(shape, packed<T>(weight1, channels, false, isa), y1, isa, pool, copy_of(x, values), moments(y1));
  statistics_of(shape, rows, statistics, statistics + channels);
  const Norm norm1(channels, norms, statistics, epsilon);
  const auto first_half = [&](int64_t row, T* to) {
    kernels.normalize(y1 + row * values, norm1.scale.data(), norm1.shift.data(), nullptr, to, width, channels);
  };
  convolve(shape, packed<T>(weight2, channels, false, isa), y2, isa, pool, first_half, moments(y2));
  statistics_of(shape, rows, statistics + 2 * channels, statistics + 3 * channels);
  const Norm norm2(channels, norms + 2 * channels, statistics + 2 * channels, epsilon);
  want_large_pages(out, map_bytes<T>(shape));
  for_each_row(shape, pool, [&](int64_t row) {
    kernels.normalize(y2 + row * values, norm2.scale.data(), norm2.shift.data(), x + row * values, out + row * values,
                      width, channels);
  });
}

template <class T>
void BlockTraining<T>::backward(const T* grad, const Kept& kept, T* d_x, float* d_weight1, float* d_weight2,
                                float* d_norms, ThreadPool& pool) const {
  const auto kernels = training_kernels<T>(isa);
  const int channels = shape.channels, width = shape.width;
  const int64_t values = int64_t{width} * channels;
  const Norm norm1(channels, norms, kept.statistics, epsilon);
  const Norm norm2(channels, norms + 2 * channels, kept.statistics + 2 * channels, epsilon);
  RowSums rows(shape);
  for_each_row(shape, pool, [&](int64_t row) {
    const int64_t at = row * values;
    kernels.gradient_sums(grad + at, kept.out + at, kept.y2 + at, norm2.mean, rows.first(row), rows.second(row), width,
                          channels);
  });
  const std::vector<float> vectors2 = norm2.gradient(shape, rows, d_norms + 2 * channels);

  const std::unique_ptr<T[]> d_inner(new T[static_cast<size_t>(shape.batch * shape.rows * values)]);
  T* const inner = d_inner.get();
  convolve_back(
      shape, packed<T>(weight2, channels, true, isa), inner, d_weight2, isa, pool,
      [&](int64_t row, T* to) {
        const int64_t at = row * values;
        kernels.norm_gradient(grad + at, kept.out + at, kept.y2 + at, vectors2.data(), to, width, channels);
      },
      [&](int64_t row, T* to) {
        kernels.normalize(kept.y1 + row * values, norm1.scale.data(), norm1.shift.data(), nullptr, to, width, channels);
      },
      [&](int64_t row) {
        kernels.relu_gradient(inner + row * values, kept.y1 + row * values, norm1.scale.data(), norm1.shift.data(),
                              norm1.mean, rows.first(row), rows.second(row), width, channels);
      });
  const std::vector<float> vectors1 = norm1.gradient(shape, rows, d_norms);
  convolve_back(
      shape, packed<T>(weight1, channels, true, isa), d_x, d_weight1, isa, pool,
      [&](int64_t row, T* to) {
        kernels.norm_gradient(inner + row * values, nullptr, kept.y1 + row * values, vectors1.data(), to, width,
                              channels);
      },
      copy_of(kept.x, values),
      [&](int64_t row) {
        const int64_t at = row * values;
        kernels.add_gradient(d_x + at, grad + at, kept.out + at, width, channels);
      });
}

#define MTFA_TRAINING(T)                                                                                           \
  template void conv3x3(const T*, const float*, T*, const MapShape&, Isa, ThreadPool&);                            \
  template void conv3x3_backward(const T*, const T*, const float*, T*, float*, const MapShape&, Isa, ThreadPool&); \
  template struct BlockTraining<T>;
MTFA_TRAINING(float)
MTFA_TRAINING(Bf16)
#undef MTFA_TRAINING

}  // namespace mtfa
