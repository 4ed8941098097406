#include "core/kernels/block_training.h"

#include "core/kernels/weight_gradient.h"

namespace mtfa {
namespace MTFA_ISA_NAMESPACE {

namespace {

constexpr int kChains = 4;  // sums side by side, which hide the adder's latency

// sums[i] = the sum over pixels of what term(at, values) puts into values[i], for one vector of channels.
template <int kSums, class Term>
MTFA_INLINE void sum_pixels(int width, int channels, int c, Vec* sums, Term term) {
  Vec chains[kChains][kSums] = {};
  for (int x = 0; x < width; x += kChains) {
#pragma GCC unroll 4
    for (int i = 0; i < kChains; ++i) {
      if (x + i >= width) break;
      Vec values[kSums];
      term(static_cast<ptrdiff_t>(x + i) * channels + c, values);
      for (int s = 0; s < kSums; ++s) chains[i][s] += values[s];
    }
  }
  for (int s = 0; s < kSums; ++s) sums[s] = (chains[0][s] + chains[1][s]) + (chains[2][s] + chains[3][s]);
}

// As torch's: a NaN in a ReLU's result lets the gradient through.
MTFA_INLINE Vec through_relu(Vec grad, Vec out) { return out <= 0.0f ? Vec{} : grad; }

template <class T>
void moments(const T* row, int width, int channels, float* mean, float* squares) {
  for (int c = 0; c < channels; c += kWidth) {
    Vec sum, square;
    sum_pixels<1>(width, channels, c, &sum, [&](ptrdiff_t at, Vec* values) { values[0] = load(row + at); });
    const Vec middle = sum / static_cast<float>(width);
    sum_pixels<1>(width, channels, c, &square, [&](ptrdiff_t at, Vec* values) {
      const Vec distance = load(row + at) - middle;
      values[0] = distance * distance;
    });
    store(mean + c, middle);
    store(squares + c, square);
  }
}

template <class T>
void normalize(const T* row, const float* scale, const float* shift, const T* residual, T* out, int width,
               int channels) {
  for (int c = 0; c < channels; c += kWidth) {
    const Vec factor = load(scale + c), term = load(shift + c);
    for (int x = 0; x < width; ++x) {
      const ptrdiff_t at = static_cast<ptrdiff_t>(x) * channels + c;
      Vec value = factor * load(row + at) + term;
      if (residual) value += load(residual + at);
      store(out + at, relu(value));
    }
  }
}

template <class T>
void gradient_sums(const T* grad, const T* out, const T* y, const float* mean, float* sum, float* product, int width,
                   int channels) {
  for (int c = 0; c < channels; c += kWidth) {
    const Vec middle = load(mean + c);
    Vec sums[2];
    sum_pixels<2>(width, channels, c, sums, [&](ptrdiff_t at, Vec* values) {
      values[0] = through_relu(load(grad + at), load(out + at));
      values[1] = values[0] * (load(y + at) - middle);
    });
    store(sum + c, sums[0]);
    store(product + c, sums[1]);
  }
}

template <class T>
void norm_gradient(const T* grad, const T* out, const T* y, const float* vectors, T* to, int width, int channels) {
  for (int c = 0; c < channels; c += kWidth) {
    const Vec a = load(vectors + c), b = load(vectors + channels + c), term = load(vectors + 2 * channels + c);
    const Vec middle = load(vectors + 3 * channels + c);
    for (int x = 0; x < width; ++x) {
      const ptrdiff_t at = static_cast<ptrdiff_t>(x) * channels + c;
      Vec dz = load(grad + at);
      if (out) dz = through_relu(dz, load(out + at));
      store(to + at, a * dz + (b * (load(y + at) - middle) + term));
    }
  }
}

template <class T>
void relu_gradient(T* row, const T* y, const float* scale, const float* shift, const float* mean, float* sum,
                   float* product, int width, int channels) {
  for (int c = 0; c < channels; c += kWidth) {
    const Vec factor = load(scale + c), term = load(shift + c), middle = load(mean + c);
    Vec sums[2];
    sum_pixels<2>(width, channels, c, sums, [&](ptrdiff_t at, Vec* values) {
      const Vec value = load(y + at);
      values[0] = through_relu(load(row + at), factor * value + term);
      values[1] = values[0] * (value - middle);
      store(row + at, values[0]);
    });
    store(sum + c, sums[0]);
    store(product + c, sums[1]);
  }
}

template <class T>
void add_gradient(T* row, const T* grad, const T* out, int width, int channels) {
  const ptrdiff_t count = static_cast<ptrdiff_t>(width) * channels;
  for (ptrdiff_t i = 0; i < count; i += kWidth)
    store(row + i, load(row + i) + through_relu(load(grad + i), load(out + i)));
}

template <class T>
constexpr BlockTrainingKernels<T> kTraining = {weight_gradient<T>, moments<T>,       normalize<T>,   gradient_sums<T>,
                                               norm_gradient<T>,   relu_gradient<T>, add_gradient<T>};

}  // namespace

TrainingKernels training_kernels() {
#ifdef MTFA_HAS_BF16
  return {kTraining<float>, kTraining<Bf16>};
#else
  return {kTraining<float>, {}};
#endif
}

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa
