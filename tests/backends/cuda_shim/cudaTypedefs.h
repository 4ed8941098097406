// Stands in for the header of the driver's function types, with the one function that is asked for.
#pragma once

#include "cuda.h"
#include "cuda_runtime.h"

using PFN_cuTensorMapEncodeTiled_v12000 = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*,
                                                       const cuuint64_t*, const cuuint64_t*, const cuuint32_t*,
                                                       const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
                                                       CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

// Refuses what the driver refuses: misaligned memory, boxes beyond 256, rows wider than the swizzle.
inline CUresult shim_encode_tiled(CUtensorMap* map, CUtensorMapDataType, cuuint32_t rank, void* data,
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
  *found = known ? reinterpret_cast<void*>(&shim_encode_tiled) : nullptr;
  *state = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}
