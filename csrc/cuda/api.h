// The C interface of mtfa_fast/_cuda.so, part 1: conventions and the library itself.
//
// Every launcher takes device pointers, sizes, the index of the device that holds them and a stream (a cudaStream_t,
// null is the default one), enqueues and returns without waiting. It returns a cudaError_t: 0 is success. It allocates
// nothing, keeps nothing, and checks only what would let it read or write outside the sizes it was given; shapes and
// types are the caller's business (mtfa_fast/backends/cuda).
#pragma once

#define MTFA_API extern "C" __attribute__((visibility("default")))

// Data type codes.
enum { MTFA_FLOAT32 = 0, MTFA_BFLOAT16 = 1, MTFA_FLOAT16 = 2 };

// Raised with every change of a signature; the Python side refuses another number.
MTFA_API int mtfa_cuda_abi();

// Text of an error code, never null.
MTFA_API const char* mtfa_cuda_error(int error);

// Versions as CUDA writes them (13000 = 13.0). The driver's is 0 where there is none.
MTFA_API int mtfa_cuda_versions(int* runtime, int* driver);

// Devices that the driver shows to this process. Without a driver an error code, never a crash.
MTFA_API int mtfa_cuda_device_count(int* count);
