// The AMX convolution and matrix product with their tiles emulated, against sums in double precision. Built and run by
// tests/core/test_amx_emulation.py with -DMTFA_EMULATE_AMX -DMTFA_ISA_NAMESPACE=amx.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <vector>

#include "core/kernels/conv3x3.cpp"
#include "core/kernels/rows.cpp"
#include "core/pack.cpp"

using namespace mtfa;

namespace {

float random_value() { return 2.0f * static_cast<float>(std::rand()) / static_cast<float>(RAND_MAX) - 1.0f; }

// Largest error relative to the largest value, or infinity where padding was written or a pixel was not.
double error_of(int width, int channels, bool residual, bool relu, bool both_rows) {
  const size_t size = static_cast<size_t>(width + 3) * channels, ahead = static_cast<size_t>(kReadAhead) * channels;
  const Bf16 nan{0x7fc0};
  std::vector<std::vector<Bf16>> in(4, std::vector<Bf16>(size + ahead)), skip(2, std::vector<Bf16>(size));
  std::vector<std::vector<Bf16>> out(2, std::vector<Bf16>(size, nan));
  for (auto& row : in) {
    for (int i = channels; i < (width + 1) * channels; ++i) row[i] = to_bf16(random_value());
    for (size_t i = size; i < size + ahead; ++i) row[i] = nan;  // what is read ahead must not matter
  }
  for (auto& row : skip) {
    for (auto& value : row) value = to_bf16(random_value());
  }
  std::vector<float> weights(static_cast<size_t>(channels) * channels * 9), bias(channels);
  for (auto& w : weights) w = to_float(to_bf16(0.1f * random_value()));
  for (auto& b : bias) b = random_value();
  const auto packed = pack_conv3x3_tiles(weights.data(), channels);

  amx::conv3x3_rows<Bf16>({{in[0].data(), in[1].data(), in[2].data(), in[3].data()},
                           {residual ? skip[0].data() : nullptr, residual && both_rows ? skip[1].data() : nullptr},
                           {out[0].data(), both_rows ? out[1].data() : nullptr},
                           width,
                           channels,
                           packed.data(),
                           bias.data(),
                           relu});

  double worst = 0, largest = 0;
  for (int row = 0; row < 2; ++row) {
    for (int x = -1; x < width + 2; ++x) {
      for (int n = 0; n < channels; ++n) {
        const size_t at = static_cast<size_t>(x + 1) * channels + n;
        if (x < 0 || x >= width || (row == 1 && !both_rows)) {
          if (!std::isnan(to_float(out[row][at]))) return std::numeric_limits<double>::infinity();
          continue;
        }
        double sum = bias[n];
        for (int tap = 0; tap < 9; ++tap) {
          for (int k = 0; k < channels; ++k) {
            sum += static_cast<double>(to_float(in[row + tap / 3][static_cast<size_t>(x + tap % 3) * channels + k])) *
                   weights[(static_cast<size_t>(n) * channels + k) * 9 + tap];
          }
        }
        if (residual) sum += to_float(skip[row][at]);
        if (relu && sum < 0) sum = 0;
        worst = std::fmax(worst, std::isnan(to_float(out[row][at])) ? std::numeric_limits<double>::infinity()
                                                                    : std::fabs(to_float(out[row][at]) - sum));
        largest = std::fmax(largest, std::fabs(sum));
      }
    }
  }
  return worst / largest;
}

// The same of rows times a matrix, with more between the rows of both than they hold.
double dense_error(int rows, int depth, int columns, bool with_bias) {
  const int in_stride = depth + 6, out_stride = columns + 3;
  std::vector<Bf16> in(static_cast<size_t>(rows) * in_stride);
  for (auto& value : in) value = to_bf16(random_value());
  std::vector<float> weights(static_cast<size_t>(depth) * columns), bias(columns);
  for (auto& w : weights) w = to_float(to_bf16(random_value()));
  for (auto& b : bias) b = random_value();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> out(static_cast<size_t>(rows) * out_stride, nan);
  const auto packed = pack_dense<Bf16>(weights, depth, columns, depth, 32);
  amx::dense_rows<Bf16>({in.data(), in_stride, packed.data(), with_bias ? bias.data() : nullptr, out.data(), out_stride,
                         rows, depth, columns, false});
  double worst = 0, largest = 0;
  for (int r = 0; r < rows; ++r) {
    for (int n = 0; n < out_stride; ++n) {
      const float got = out[static_cast<size_t>(r) * out_stride + n];
      if (n >= columns) {
        if (!std::isnan(got)) return std::numeric_limits<double>::infinity();
        continue;
      }
      double sum = with_bias ? bias[n] : 0;
      for (int k = 0; k < depth; ++k) {
        sum += static_cast<double>(to_float(in[static_cast<size_t>(r) * in_stride + k])) *
               weights[static_cast<size_t>(k) * columns + n];
      }
      worst = std::fmax(worst, std::isnan(got) ? std::numeric_limits<double>::infinity() : std::fabs(got - sum));
      largest = std::fmax(largest, std::fabs(sum));
    }
  }
  return worst / largest;
}

}  // namespace

int main() {
  int failures = 0;
  for (int rows : {1, 15, 16, 32, 71}) {
    for (int depth : {16, 32, 96}) {  // 16 fills no tile
      for (int columns : {32, 96}) {
        for (bool bias : {false, true}) {
          const double error = dense_error(rows, depth, columns, bias);
          if (error < 1e-6) continue;
          std::printf("%d rows, depth %d, %d columns, bias %d: error %g\n", rows, depth, columns, bias, error);
          ++failures;
        }
      }
    }
  }
  for (int width : {1, 5, 16, 40, 128}) {
    for (int channels : {32, 64}) {
      for (int flags = 0; flags < 8; ++flags) {
        const double error = error_of(width, channels, flags & 1, flags & 2, flags & 4);
        const bool good = error < 1.0 / 256;  // half a unit in the last place of bf16, at the largest value
        if (!good) std::printf("width %d, %d channels, flags %d: error %g\n", width, channels, flags, error);
        failures += !good;
      }
    }
  }
  return failures != 0;
}
