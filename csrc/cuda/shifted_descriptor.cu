// One question to the hardware, see mtfa_shifted_descriptor: does wgmma compute the swizzle from the address (then a
// descriptor may start at any row of the pattern with base offset 0, which is how the residual block shifts along D) or
// from the row's number?
#include "hopper.h"
#include "launch.h"
#include "residual_block.h"

namespace mtfa {
namespace {

using namespace hopper;

constexpr int kPixels = 128, kSlots = 136, kChannels = 64;

__global__ void __launch_bounds__(128)
    shifted_product(const uint32_t* __restrict__ w, const __nv_bfloat16* __restrict__ x, float* __restrict__ out,
                    int dx, int base_offset) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  uint8_t* tile = dynamic_shared<uint8_t>();
  const int i = static_cast<int>(threadIdx.x);
  for (int n = i; n < kSlots * kChannels; n += 128) {
    const int s = n / kChannels, c = n % kChannels;
    *reinterpret_cast<__nv_bfloat16*>(tile + s * 128 + ((c / 8 ^ (s & 7)) << 4) + c % 8 * 2) = x[n];
  }
  fence_async();
  __syncthreads();
  float sum[kPixels / 2] = {};
  uint32_t a[16];
#pragma unroll
  for (int n = 0; n < 16; n++) a[n] = w[n * 128 + i];
  products_begin();
#pragma unroll
  for (int k = 0; k < 4; k++) {
    multiply(sum, &a[k * 4], descriptor(shared_address(tile) + dx * 128 + k * 32, base_offset));
  }
  products_end(sum);
#pragma unroll
  for (int j = 0; j < kPixels / 2; j++) {
    const int row = i / 32 * 16 + i % 32 / 4 + 8 * (j >> 1 & 1), column = j / 4 * 8 + i % 4 * 2 + (j & 1);
    out[row * kPixels + column] = sum[j];
  }
#endif
}

}  // namespace
}  // namespace mtfa

MTFA_API int mtfa_shifted_descriptor(const uint32_t* w, const void* x, float* out, int dx, int base_offset, int device,
                                     void* stream) {
  using namespace mtfa;
  if (dx < 0 || dx > kSlots - kPixels || base_offset < 0 || base_offset > 7) return cudaErrorInvalidValue;
  if (const cudaError_t error = use_device(device)) return error;
  return launch(shifted_product, dim3(1), 128, kSlots * kChannels * 2, stream, w, static_cast<const __nv_bfloat16*>(x),
                out, dx, base_offset);
}
