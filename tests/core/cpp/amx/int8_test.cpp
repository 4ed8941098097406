// The 8-bit convolution on emulated tiles against the portable one. Built and run by tests/core/test_amx_emulation.py.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "core/kernels/kernels.h"
#include "core/pack_int8.h"

namespace mtfa {
namespace portable {
void conv3x3_int8(const ConvRows<uint8_t>&);
}
namespace amx {
void conv3x3_int8(const ConvRows<uint8_t>&);
}
}  // namespace mtfa

using namespace mtfa;

namespace {

float random_value() { return static_cast<float>(std::rand()) / static_cast<float>(RAND_MAX); }
uint8_t random_byte() { return static_cast<uint8_t>(std::rand() >> 8); }

std::vector<float> values(size_t size, float low, float high) {
  std::vector<float> found(size);
  for (auto& value : found) value = low + (high - low) * random_value();
  return found;
}

bool same(int width, int channels, bool residual, bool both_rows) {
  const int padded = int8_channels(channels);
  const size_t plane = static_cast<size_t>(kInt8Positions) * channels;
  const auto weight = values(static_cast<size_t>(channels) * channels * 9, -0.1f, 0.1f), bias = values(channels, -1, 1);
  const auto in_step = values(channels, 0.005f, 0.02f), out_step = values(channels, 0.005f, 0.02f);
  const auto skip_step = values(channels, 0.005f, 0.02f), transformed = values(plane, 0.02f, 0.1f);
  const Int8Steps steps{in_step.data(), transformed.data(), out_step.data(), residual ? skip_step.data() : nullptr};

  const size_t size = static_cast<size_t>(width + 5) * padded, ahead = static_cast<size_t>(kReadAhead) * padded;
  std::vector<std::vector<uint8_t>> in(4, std::vector<uint8_t>(size + ahead)), skip(2, std::vector<uint8_t>(size));
  for (auto& row : in) {
    for (int x = 1; x <= width; ++x) {
      for (int n = 0; n < channels; ++n) row[static_cast<size_t>(x) * padded + n] = random_byte();
    }
  }
  for (auto& row : skip) {
    for (auto& value : row) value = random_byte();
  }
  const auto run = [&](void (*convolution)(const ConvRows<uint8_t>&), int panel, int depth) {
    Kernels kernels{};
    kernels.panel = panel;
    kernels.int8_depth = depth;
    const auto packed = pack_conv_int8(weight.data(), bias.data(), channels, steps, kernels);
    std::vector<uint8_t> out(2 * size, 77);  // what is not written stays
    convolution({{in[0].data(), in[1].data(), in[2].data(), in[3].data()},
                 {residual ? skip[0].data() : nullptr, residual && both_rows ? skip[1].data() : nullptr},
                 {out.data(), both_rows ? out.data() + size : nullptr},
                 width,
                 padded,
                 packed.weights.data(),
                 packed.bias.data(),
                 true,
                 packed.blocks});
    return out;
  };
  return run(portable::conv3x3_int8, 8, 4) == run(amx::conv3x3_int8, 32, 64);
}

}  // namespace

int main() {
  int failures = 0;
  for (int width : {1, 5, 64, 67, 128}) {
    for (int channels : {10, 32, 64, 96}) {  // tiles are filled from 64 on
      for (int flags = 0; flags < 4; ++flags) {
        if (same(width, channels, flags & 1, flags & 2)) continue;
        std::printf("width %d, %d channels, flags %d: other bytes\n", width, channels, flags);
        ++failures;
      }
    }
  }
  return failures != 0;
}
