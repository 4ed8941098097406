// What every launcher shares: export, data type codes, the launch itself.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstddef>

#include "api.h"

namespace mtfa {

// The caller's framework has made `device` current with its own copy of the CUDA runtime. This library links its own,
// which keeps its own idea of the current device; both share the device's primary context.
inline cudaError_t use_device(int device) { return cudaSetDevice(device); }

// The block's dynamic shared memory. 1024 bytes is the strictest alignment that any kernel here needs.
template <typename T>
__device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ __align__(1024) unsigned char mtfa_dynamic_shared[];
  return reinterpret_cast<T*>(mtfa_dynamic_shared);
}

// kernel<<<grid, threads, shared, stream>>>(arguments...), with more than 48 KiB of shared memory where asked.
template <typename... Parameters, typename... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, int threads, std::size_t shared, void* stream,
                   Arguments... arguments) {
  if (shared > 48 * 1024) {
    const cudaError_t error = cudaFuncSetAttribute(
        reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
    if (error != cudaSuccess) return error;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared;
  config.stream = static_cast<cudaStream_t>(stream);
  return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

// Calls function(T{}) with the type that a data type code names.
template <typename Function>
cudaError_t with_type(int dtype, Function function) {
  switch (dtype) {
    case MTFA_FLOAT32:
      return function(float{});
    case MTFA_BFLOAT16:
      return function(__nv_bfloat16{});
    case MTFA_FLOAT16:
      return function(__half{});
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace mtfa
