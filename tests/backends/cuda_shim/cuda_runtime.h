// Stands in for the CUDA toolkit's header when a .cu file is compiled by g++ as C++: enough of the language and of the
// runtime to run the kernels on the CPU. One fibre per CUDA thread (fibres.h); the block's shared memory is
// thread_local, since all fibres of a block live on one thread of the operating system.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "fibres.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ thread_local
#define __align__(n) __attribute__((aligned(n)))
#define __restrict__

struct float4 {
  float x, y, z, w;
};
struct uint4 {
  std::uint32_t x, y, z, w;
};
inline uint4 make_uint4(std::uint32_t x, std::uint32_t y, std::uint32_t z, std::uint32_t w) { return {x, y, z, w}; }
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// A thread's index is that of the running fibre.
struct ThreadIndex {
  struct X {
    operator unsigned() const { return static_cast<unsigned>(shim::current()); }
  } x;
};
inline ThreadIndex threadIdx;
inline dim3 blockIdx, blockDim, gridDim;

// --- device functions ---

using std::fmaf;
using std::max;
using std::min;
inline void __syncthreads() { shim::barrier(0, static_cast<int>(blockDim.x)); }
inline void __syncwarp(unsigned = ~0u) { shim::warp_barrier(); }
template <typename T>
T __shfl_sync(unsigned, T value, int lane, int width = 32) {
  return shim::shuffle(value, (shim::current() & ~(width - 1)) | (lane & (width - 1)));
}
template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return shim::shuffle(value, shim::current() ^ mask);
}
template <typename T>
T __ldg(const T* p) {
  return *p;
}
inline float __uint_as_float(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// --- the runtime ---

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorLaunchFailure = 719,
  cudaErrorNotSupported = 801
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum cudaDeviceAttr {
  cudaDevAttrMaxSharedMemoryPerBlockOptin,
  cudaDevAttrMultiProcessorCount,
  cudaDevAttrComputeCapabilityMajor,
  cudaDevAttrComputeCapabilityMinor
};
using cudaStream_t = void*;
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  std::size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
};

// The library's dynamic shared memory is this array (see dynamic_shared in csrc/cuda/launch.h).
namespace mtfa {
inline thread_local __attribute__((aligned(1024))) unsigned char mtfa_dynamic_shared[227 * 1024];
}

inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorLaunchFailure ? shim::block().failure : "refused by the shim";
}
inline cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 13000, cudaSuccess; }
inline cudaError_t cudaDriverGetVersion(int* version) { return *version = 13000, cudaSuccess; }
inline cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int bytes) {
  return bytes <= shim::settings().shared_limit ? cudaSuccess : cudaErrorInvalidValue;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const int answers[] = {shim::settings().shared_limit, shim::settings().multiprocessors, 9, 0};
  *value = answers[attribute];
  return cudaSuccess;
}

enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };
inline cudaError_t cudaMalloc(void** data, std::size_t bytes) {
  *data = std::aligned_alloc(1024, (bytes + 1023) / 1024 * 1024);
  return cudaSuccess;
}
inline cudaError_t cudaFree(void* data) {
  std::free(data);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemset(void* data, int value, std::size_t bytes) {
  std::memset(data, value, bytes);
  return cudaSuccess;
}

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  if (config->dynamicSmemBytes > static_cast<std::size_t>(shim::settings().shared_limit)) return cudaErrorInvalidValue;
  gridDim = config->gridDim, blockDim = config->blockDim;
  for (unsigned z = 0; z < gridDim.z; z++)
    for (unsigned y = 0; y < gridDim.y; y++)
      for (unsigned x = 0; x < gridDim.x; x++) {
        blockIdx = dim3(x, y, z);
        // 0xFF is NaN in every floating-point type here: whoever reads what nobody wrote shows it.
        std::memset(mtfa::mtfa_dynamic_shared, 0xFF, sizeof mtfa::mtfa_dynamic_shared);
        const bool ok =
            shim::run_block(static_cast<int>(blockDim.x), [&] { kernel(static_cast<Parameters>(arguments)...); });
        if (!ok) return cudaErrorLaunchFailure;
      }
  return cudaSuccess;
}
