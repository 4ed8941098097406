// The residual block against plain loops on the CPU: what mtfa_fast/backends/cuda/residual_block.py asks in a process
// of its own before it trusts a device with the kernel.
#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <vector>

#include "launch.h"
#include "residual_block.h"

namespace mtfa {
namespace {

// 29 rows fill each ring's slots five times and more, so every parity of every barrier comes back: in blocks of 29
// rows, and of 3, whose last has two.
constexpr int kClips = 2, kSteps = 29, kBands = 70, kChannels = 64, kTaps = 9;

// Multiples of 1/8 in [-1, 1]: exact in bf16.
std::vector<float> numbers(std::size_t count, unsigned seed) {
  std::vector<float> v(count);
  for (float& x : v) {
    seed = seed * 1664525u + 1013904223u;
    x = (static_cast<int>(seed >> 24) % 17 - 8) / 8.0f;
  }
  return v;
}

float round_bf16(float x) { return static_cast<float>(__nv_bfloat16(x)); }

// relu(conv(x) + bias + residual) of [B][T][D][C] maps.
std::vector<float> convolve(const std::vector<float>& x, const std::vector<float>& w, const std::vector<float>& bias,
                            const std::vector<float>* residual) {
  std::vector<float> y(x.size());
  for (int b = 0; b < kClips; b++)
    for (int t = 0; t < kSteps; t++)
      for (int d = 0; d < kBands; d++)
        for (int o = 0; o < kChannels; o++) {
          const std::size_t at = ((static_cast<std::size_t>(b) * kSteps + t) * kBands + d) * kChannels;
          float sum = bias[o] + (residual == nullptr ? 0.0f : (*residual)[at + o]);
          for (int tap = 0; tap < kTaps; tap++) {
            const int tt = t + tap / 3 - 1, dd = d + tap % 3 - 1;
            if (tt < 0 || tt >= kSteps || dd < 0 || dd >= kBands) continue;
            const float* pixel = &x[((static_cast<std::size_t>(b) * kSteps + tt) * kBands + dd) * kChannels];
            for (int c = 0; c < kChannels; c++) sum += w[(o * kChannels + c) * kTaps + tap] * pixel[c];
          }
          y[at + o] = std::max(sum, 0.0f);
        }
  return y;
}

// Device memory of one array; its copy there if it has contents.
struct Array {
  void* data = nullptr;
  std::size_t bytes;
  cudaError_t error;
  explicit Array(std::size_t size) : bytes(size), error(cudaMalloc(&data, size)) {}
  explicit Array(const std::vector<float>& v) : Array(v.size() * sizeof(float)) {
    if (error == cudaSuccess) error = cudaMemcpy(data, v.data(), bytes, cudaMemcpyHostToDevice);
  }
  Array(const Array&) = delete;
  ~Array() { cudaFree(data); }
};

}  // namespace
}  // namespace mtfa

MTFA_API int mtfa_residual_block_trial(int device, float* worst) {
  using namespace mtfa;
  if (const cudaError_t error = use_device(device)) return error;
  const std::size_t map = std::size_t{kClips} * kSteps * kBands * kChannels;
  const std::vector<float> x = numbers(map, 1), b1 = numbers(kChannels, 2), b2 = numbers(kChannels, 3);
  std::vector<float> w1 = numbers(kChannels * kChannels * kTaps, 4), w2 = numbers(kChannels * kChannels * kTaps, 5);
  for (auto* w : {&w1, &w2})
    for (float& v : *w) v /= 16.0f;
  std::vector<float> middle = convolve(x, w1, b1, nullptr);
  for (float& v : middle) v = round_bf16(v);
  const std::vector<float> wanted = convolve(middle, w2, b2, &x);

  std::vector<__nv_bfloat16> input(map), output(map);
  for (std::size_t i = 0; i < map; i++) input[i] = __nv_bfloat16(x[i]);
  Array from(map * 2), to(map * 2), packed(MTFA_RESIDUAL_BLOCK_WORDS * sizeof(uint32_t));
  const Array dw1(w1), db1(b1), dw2(w2), db2(b2);
  for (const Array* a : std::initializer_list<const Array*>{&from, &to, &packed, &dw1, &db1, &dw2, &db2}) {
    if (a->error != cudaSuccess) return a->error;
  }
  int error = cudaMemcpy(from.data, input.data(), from.bytes, cudaMemcpyHostToDevice);
  auto* fragments = static_cast<uint32_t*>(packed.data);
  if (error == 0) {
    error = mtfa_residual_block_pack(dw1.data, db1.data, dw2.data, db2.data, MTFA_FLOAT32, kTaps, 1, fragments, device,
                                     nullptr);
  }
  *worst = 0.0f;
  for (const int run : {0, 1, 2, 3, 4, 5}) {
    const int pixels = 32 << run % 3, rows = run < 3 ? 3 : kSteps;
    if (error == 0) error = cudaMemset(to.data, 0xFF, to.bytes);  // NaN where nothing is written
    if (error == 0) {
      error = mtfa_residual_block(from.data, fragments, to.data, kClips, kSteps, kBands, pixels, rows, device, nullptr);
    }
    if (error == 0) error = cudaMemcpy(output.data(), to.data, to.bytes, cudaMemcpyDeviceToHost);
    if (error != 0) return error;
    double difference = 0.0, size = 0.0;
    for (std::size_t i = 0; i < map; i++) {
      const double d = static_cast<double>(static_cast<float>(output[i])) - wanted[i];
      difference += d * d;
      size += static_cast<double>(wanted[i]) * wanted[i];
    }
    const float relative = static_cast<float>(std::sqrt(difference / size));
    if (!(relative <= *worst)) *worst = relative;  // a NaN stays
    if (std::isnan(relative)) return cudaSuccess;
  }
  return cudaSuccess;
}
