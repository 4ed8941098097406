// What the library says about itself.
#include <cuda_runtime.h>

#include "api.h"

MTFA_API int mtfa_cuda_abi() { return 1; }

MTFA_API const char* mtfa_cuda_error(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

MTFA_API int mtfa_cuda_versions(int* runtime, int* driver) {
  const cudaError_t error = cudaRuntimeGetVersion(runtime);
  return error != cudaSuccess ? error : cudaDriverGetVersion(driver);
}

MTFA_API int mtfa_cuda_device_count(int* count) { return cudaGetDeviceCount(count); }
