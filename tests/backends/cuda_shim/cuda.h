// Stands in for the driver's header: the description of a tile of a tensor, and the function that makes one.
#pragma once

#include <cstdint>

#include "cuda_runtime.h"

using cuuint32_t = std::uint32_t;
using cuuint64_t = std::uint64_t;

// Four dimensions, innermost first; strides in bytes of all but the innermost.
struct CUtensorMap {
  unsigned char* data;
  cuuint64_t sizes[4], strides[3];
  cuuint32_t box[4];
};

enum CUresult { CUDA_SUCCESS = 0, CUDA_ERROR_INVALID_VALUE = 1 };
enum CUtensorMapDataType { CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 };
enum CUtensorMapInterleave { CU_TENSOR_MAP_INTERLEAVE_NONE };
enum CUtensorMapSwizzle { CU_TENSOR_MAP_SWIZZLE_128B };
enum CUtensorMapL2promotion { CU_TENSOR_MAP_L2_PROMOTION_L2_256B };
enum CUtensorMapFloatOOBfill { CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE };

// Refuses what the driver refuses: misaligned memory, boxes beyond 256, rows wider than the swizzle.
inline CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType, cuuint32_t rank, void* data,
                                       const cuuint64_t* sizes, const cuuint64_t* strides, const cuuint32_t* box,
                                       const cuuint32_t* every, CUtensorMapInterleave, CUtensorMapSwizzle,
                                       CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  bool ok = rank == 4 && reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && box[0] * 2 <= 128;
  for (int i = 0; i < 4; i++) ok = ok && sizes[i] > 0 && box[i] > 0 && box[i] <= 256 && every[i] == 1;
  for (int i = 0; i < 3; i++) ok = ok && strides[i] % 16 == 0;
  if (!ok) return CUDA_ERROR_INVALID_VALUE;
  map->data = static_cast<unsigned char*>(data);
  for (int i = 0; i < 4; i++) map->sizes[i] = sizes[i], map->box[i] = box[i];
  for (int i = 0; i < 3; i++) map->strides[i] = strides[i];
  return CUDA_SUCCESS;
}

enum cudaDriverEntryPointQueryResult { cudaDriverEntryPointSuccess = 0, cudaDriverEntryPointSymbolNotFound = 1 };
enum { cudaEnableDefault = 0 };
inline cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** found, unsigned, int,
                                                    cudaDriverEntryPointQueryResult* state) {
  const bool known = std::strcmp(name, "cuTensorMapEncodeTiled") == 0;
  *found = known ? reinterpret_cast<void*>(&cuTensorMapEncodeTiled) : nullptr;
  *state = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}
