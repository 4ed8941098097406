// The streaming residual block. A block of threads walks down the rows of a strip of the map:
//
//   producer warp --copies--> input rows --conv1--> middle rows --conv2, + input row--> output row --> memory
//                             (ring)  warpgroup 0   (ring)         warpgroup 1
//
// Reasons for the shape:
// - The weights are the A operand and stay in registers (9 taps x 16 = 144 a thread) for all rows; pixels are the B
//   operand. So a row is loaded once, not nine times, and no shared memory bandwidth goes to weights.
// - A tap's shift along D is a shift of the B operand's start by one pixel (128 bytes) inside the row; along T it is
//   another row of the ring. Nothing is copied for it.
// - The middle map and the residual never leave shared memory.
// - Both convolutions have the same number of products, so the warpgroups balance. They take turns with the tensor
//   cores, which one of them saturates: left alone they would share them, finish their rows together and leave the
//   tensor cores idle while both write. conv2 stays three rows behind conv1, so that its rows are ready in its turn.
#include "hopper.h"
#include "launch.h"
#include "residual_block.h"

namespace mtfa {
namespace {

using namespace hopper;

constexpr int kChannels = 64;
constexpr int kPixelBytes = kChannels * 2;  // also the width of the swizzle pattern
// The address alone is believed to decide the swizzle, so a descriptor may start dx rows inside the pattern with base
// offset 0. Should the hardware count rows from the descriptor's start instead (mtfa_shifted_descriptor tells), compile
// with this as 1: the descriptors then say how far inside they start.
#ifndef MTFA_BASE_OFFSET
#define MTFA_BASE_OFFSET 0
#endif

constexpr int kFragments = 9 * 4 * 4;  // registers of weights a thread: taps x steps of 16 channels x 4
constexpr int kGroup = 128;            // threads of a warpgroup
constexpr int kThreads = 3 * kGroup;

// conv1 is at row i + 4 at most while conv2 is at row i, whose residual is input row i + 2: input rows i + 2 to i + 6
// and one on its way; middle rows i to i + 3, the last taking the place of the first when conv2 is through with it.
constexpr int kInputRows = 6, kMiddleRows = 4;

// Named barriers (0 is __syncthreads): the output row's tile, and whose turn it is. A turn is handed over by 128
// threads that arrive and taken by 128 that wait.
enum { kOutputBarrier = 1, kFirstTurn = 2, kSecondTurn = 3 };
[[maybe_unused]] constexpr int kTurnThreads = 2 * kGroup;

// Rows by which conv2 follows conv1.
[[maybe_unused]] constexpr int kLag = 3;

// 65536 registers = 168 * 384: the consumers take what the producer does not need.
[[maybe_unused]] constexpr int kConsumerRegisters = 240, kProducerRegisters = 24;

// A row in shared memory: slot s holds pixel s - 1 of the strip, [slot][channel], 128-byte swizzle. Slots 0 and kPixels
// + 1 are the neighbours left and right; the rest fills up to a multiple of 1024 bytes, the period of the swizzle.
template <int kPixels>
struct Row {
  static constexpr int kBytes = (kPixels + 8) * kPixelBytes;
  alignas(1024) uint8_t bytes[kBytes];
};

template <int kPixels>
struct Shared {
  Row<kPixels> input[kInputRows], middle[kMiddleRows], output;
  alignas(8) uint64_t input_full[kInputRows], input_free[kInputRows], middle_full[kMiddleRows],
      middle_free[kMiddleRows];
};

// What a block works on: output rows [first, last) and the strip whose pixel 0 is column `column`.
struct Part {
  int clip, first, last, steps, column, bands;
  int margin;  // pixels at either end of the strip whose conv2 lacks a neighbour, since another strip has it: 0 or 1
};

// The ring's slot of the i-th row, and the parity of the phase in which the slot is filled or freed for that row.
template <int kSize>
MTFA_DEVICE int slot(int i) {
  return i % kSize;
}
template <int kSize>
MTFA_DEVICE int parity(int i) {
  return i / kSize & 1;
}

// Address of 16 bytes of a row: eight channels of a slot. The swizzle exchanges them by the slot's number.
MTFA_DEVICE uint32_t chunk_address(const uint8_t* row, int slot, int chunk) {
  return shared_address(row) + slot * kPixelBytes + ((chunk ^ (slot & 7)) << 4);
}

// A thread's sums: sum[4 j + e] belongs to pixel 8 j + lane % 4 * 2 + (e & 1), channel warp * 16 + lane / 4 + 8 * (e >>
// 1). This is the address that the thread gives for pixels 8 j to 8 j + 15 in store_transposed and load_transposed.
[[maybe_unused]] MTFA_DEVICE uint32_t matrix_address(const uint8_t* row, int first_slot, int j, int warp, int lane) {
  return chunk_address(row, first_slot + 8 * j + (lane & 7) + (lane >> 4) * 8, warp * 2 + ((lane >> 3) & 1));
}

// Issues sum += the 3 x 3 convolution of three rows, 36 products; products_end waits for them.
template <int kPixels>
MTFA_DEVICE void convolve(float (&sum)[kPixels / 2], const uint32_t (&weights)[kFragments], const Row<kPixels>& above,
                          const Row<kPixels>& centre, const Row<kPixels>& below) {
  const uint64_t rows[3] = {descriptor(shared_address(above.bytes)), descriptor(shared_address(centre.bytes)),
                            descriptor(shared_address(below.bytes))};
  products_begin();
#pragma unroll
  for (int tap = 0; tap < 9; tap++)
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const int offset = tap % 3 * kPixelBytes + k * 32;  // descriptors count in 16 bytes
      const uint64_t inside = static_cast<uint64_t>(MTFA_BASE_OFFSET * (tap % 3)) << 49;
      multiply(sum, &weights[(tap * 4 + k) * 4], rows[tap / 3] + offset / 16 + inside);
    }
}

// Pixel 0 goes to slot `first_slot`; relu on the way.
template <int kPixels>
MTFA_DEVICE void put(Row<kPixels>& row, const float (&sum)[kPixels / 2], int first_slot, int warp, int lane) {
#pragma unroll
  for (int j = 0; j < kPixels / 8; j += 2) {
    uint32_t v[4];
#pragma unroll
    for (int m = 0; m < 4; m++) v[m] = pack(fmaxf(sum[4 * j + 2 * m], 0.0f), fmaxf(sum[4 * j + 2 * m + 1], 0.0f));
    store_transposed(matrix_address(row.bytes, first_slot, j, warp, lane), v);
  }
}

template <int kPixels>
MTFA_DEVICE void load_input(Shared<kPixels>& s, const CUtensorMap* x, const Part& part) {
  const int rows = part.last - part.first + 4;  // two above, two below
  for (int i = 0; i < rows; i++) {
    const int k = slot<kInputRows>(i);
    if (i >= kInputRows) barrier_wait(&s.input_free[k], parity<kInputRows>(i - kInputRows));
    barrier_arrive_expecting(&s.input_full[k], (kPixels + 2) * kPixelBytes);
    load_tile(s.input[k].bytes, x, &s.input_full[k], 0, part.column - 1, part.first - 2 + i, part.clip);
  }
}

// Middle row i is row first - 1 + i of the map and takes input rows i to i + 2.
template <int kPixels>
MTFA_DEVICE void first_convolution(Shared<kPixels>& s, const uint32_t (&weights)[kFragments], float bias, float bias8,
                                   const Part& part, int warp, int lane) {
  const int rows = part.last - part.first + 2;
  const bool edge = part.column < 0 || part.column + kPixels > part.bands;
  barrier_wait(&s.input_full[0], 0);
  barrier_wait(&s.input_full[1], 0);
  for (int i = 0; i < rows; i++) {
    const int below = slot<kInputRows>(i + 2), k = slot<kMiddleRows>(i), t = part.first - 1 + i;
    barrier_wait(&s.input_full[below], parity<kInputRows>(i + 2));
    float sum[kPixels / 2];
#pragma unroll
    for (int j = 0; j < kPixels / 2; j++) sum[j] = (j & 2) ? bias8 : bias;
    if (i > kLag) named_barrier(kFirstTurn, kTurnThreads);
    convolve<kPixels>(sum, weights, s.input[slot<kInputRows>(i)], s.input[slot<kInputRows>(i + 1)], s.input[below]);
    if (i >= kLag) named_arrive(kSecondTurn, kTurnThreads);
    products_end(sum);
    if (lane == 0) barrier_arrive(&s.input_free[slot<kInputRows>(i)]);
    // conv2 pads with zeros, not with what conv1 gives outside the map. Pixels are compared as constants with two
    // bounds a thread: with one comparison a column the compiler keeps all of them over the rows and spills.
    const bool outside = t < 0 || t >= part.steps;
    if (outside || edge) {
      const int shift = part.column + lane % 4 * 2, low = outside ? kPixels : -shift, high = part.bands - shift;
#pragma unroll
      for (int j = 0; j < kPixels / 2; j++) {
        const int pixel = j / 4 * 8 + (j & 1);
        if (pixel < low || pixel >= high) sum[j] = 0.0f;
      }
    }
    if (i >= kMiddleRows) barrier_wait(&s.middle_free[k], parity<kMiddleRows>(i - kMiddleRows));
    put<kPixels>(s.middle[k], sum, 1, warp, lane);
    fence_async();
    barrier_arrive(&s.middle_full[k]);
  }
}

// Output row i is row first + i of the map and takes middle rows i to i + 2 and input row i + 2.
template <int kPixels>
MTFA_DEVICE void second_convolution(Shared<kPixels>& s, const uint32_t (&weights)[kFragments], float bias, float bias8,
                                    const CUtensorMap* y, const Part& part, int warp, int lane) {
  // The output row's tile starts at slot 8, which is 1024 bytes in: a strip whose first pixel is not wanted puts it
  // into slot 7.
  constexpr int kFirstSlot = 8;
  const bool leader = warp == 0 && lane == 0;
  const int rows = part.last - part.first;
  if (lane == 0) {  // the two rows above are nobody's residual
    barrier_arrive(&s.input_free[0]);
    barrier_arrive(&s.input_free[1]);
  }
  barrier_wait(&s.middle_full[0], 0);
  barrier_wait(&s.middle_full[1], 0);
  for (int i = 0; i < rows; i++) {
    const int below = slot<kMiddleRows>(i + 2), residual = slot<kInputRows>(i + 2);
    // Long over, since conv1 has used the row; but the copy's writes are promised only to those who have waited for
    // them.
    barrier_wait(&s.input_full[residual], parity<kInputRows>(i + 2));
    float sum[kPixels / 2];
#pragma unroll
    for (int j = 0; j < kPixels / 8; j += 2) {
      uint32_t v[4];
      load_transposed(matrix_address(s.input[residual].bytes, 1, j, warp, lane), v);
#pragma unroll
      for (int m = 0; m < 4; m++) {
        sum[4 * j + 2 * m] = ((m & 1) ? bias8 : bias) + unpack_low(v[m]);
        sum[4 * j + 2 * m + 1] = ((m & 1) ? bias8 : bias) + unpack_high(v[m]);
      }
    }
    __syncwarp();
    if (lane == 0) barrier_arrive(&s.input_free[residual]);
    barrier_wait(&s.middle_full[below], parity<kMiddleRows>(i + 2));
    if (i + kLag < rows + 2) named_barrier(kSecondTurn, kTurnThreads);
    convolve<kPixels>(sum, weights, s.middle[slot<kMiddleRows>(i)], s.middle[slot<kMiddleRows>(i + 1)],
                      s.middle[below]);
    if (i + kLag + 1 < rows + 2) named_arrive(kFirstTurn, kTurnThreads);
    products_end(sum);
    if (lane == 0) barrier_arrive(&s.middle_free[slot<kMiddleRows>(i)]);
    if (leader) wait_stores_read();
    named_barrier(kOutputBarrier, kGroup);
    put<kPixels>(s.output, sum, kFirstSlot - part.margin, warp, lane);
    fence_async();
    named_barrier(kOutputBarrier, kGroup);
    if (leader) {
      store_tile(y, s.output.bytes + kFirstSlot * kPixelBytes, 0, part.column + part.margin, part.first + i, part.clip);
    }
  }
  if (leader) wait_stores();  // shared memory must outlive them
}

template <int kPixels>
__global__ void __launch_bounds__(kThreads, 1)
    residual_block(const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap y,
                   const uint32_t* __restrict__ packed, int steps, int bands, int rows, int chunks, int strips) {
  // wgmma and setmaxnreg exist for sm_90a only; for other targets the kernel is empty and its parts are unused.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  Shared<kPixels>& s = *dynamic_shared<Shared<kPixels>>();
  // Through a shuffle the compiler learns that a warp agrees on its group, and keeps rows and descriptors in uniform
  // registers.
  const int thread = static_cast<int>(threadIdx.x), group = __shfl_sync(0xFFFFFFFFu, thread / kGroup, 0);
  const int warp = thread % kGroup / 32, lane = thread % 32;
  Part part;
  const int block = static_cast<int>(blockIdx.x);
  part.first = block % chunks * rows;
  part.last = min(part.first + rows, steps);
  part.clip = block / chunks / strips;
  part.margin = strips > 1 ? 1 : 0;
  part.column = strips > 1 ? block / chunks % strips * (kPixels - 2) - 1 : 0;
  part.steps = steps;
  part.bands = bands;

  if (thread == 0) {
    for (int i = 0; i < kInputRows; i++) {
      barrier_init(&s.input_full[i], 1);
      barrier_init(&s.input_free[i], 8);  // one arrival of each consumer warp
    }
    for (int i = 0; i < kMiddleRows; i++) {
      barrier_init(&s.middle_full[i], kGroup);
      barrier_init(&s.middle_free[i], 4);
    }
    barriers_ready();
  }
  // conv1 writes the middle rows' pixels; their neighbours left and right are zero for good.
  for (int i = thread; i < kMiddleRows * Row<kPixels>::kBytes / 16; i += kThreads) {
    reinterpret_cast<uint4*>(s.middle)[i] = make_uint4(0, 0, 0, 0);
  }
  fence_async();
  __syncthreads();

  if (group == 2) {
    lower_registers<kProducerRegisters>();
    if (thread == 2 * kGroup) load_input<kPixels>(s, &x, part);
  } else {
    raise_registers<kConsumerRegisters>();
    uint32_t weights[kFragments];
#pragma unroll
    for (int i = 0; i < kFragments; i++)
      weights[i] = __ldg(&packed[(group * kFragments + i) * kGroup + thread % kGroup]);
    const float* b = reinterpret_cast<const float*>(packed + 2 * kFragments * kGroup) + group * kChannels;
    const float bias = b[warp * 16 + lane / 4], bias8 = b[warp * 16 + lane / 4 + 8];
    if (group == 0) {
      first_convolution<kPixels>(s, weights, bias, bias8, part, warp, lane);
    } else {
      second_convolution<kPixels>(s, weights, bias, bias8, &y, part, warp, lane);
    }
  }
#endif
}

template <typename T>
__global__ void __launch_bounds__(kGroup)
    pack_weights(const T* __restrict__ w1, const T* __restrict__ b1, const T* __restrict__ w2, const T* __restrict__ b2,
                 int channel_stride, int tap_stride, uint32_t* packed) {
  const int i = static_cast<int>(threadIdx.x), fragment = static_cast<int>(blockIdx.x),
            conv = static_cast<int>(blockIdx.y);
  const int q = fragment % 4, k = fragment / 4 % 4, tap = fragment / 16;
  const int row = i / 32 * 16 + i % 32 / 4 + 8 * (q & 1), column = 16 * k + i % 4 * 2 + 8 * (q >> 1);
  const T* w = (conv == 0 ? w1 : w2) + row * kChannels * 9 + column * channel_stride + tap * tap_stride;
  packed[(conv * kFragments + fragment) * kGroup + i] =
      pack(static_cast<float>(w[0]), static_cast<float>(w[channel_stride]));
  if (fragment == 0 && i < kChannels) {
    float* biases = reinterpret_cast<float*>(packed + 2 * kFragments * kGroup);
    biases[conv * kChannels + i] = static_cast<float>((conv == 0 ? b1 : b2)[i]);
  }
}

// The driver's function, found at run time: the library links no driver and loads where there is none. Its type comes
// from its declaration, because not every installation has cudaTypedefs.h.
using TileEncoder = decltype(&cuTensorMapEncodeTiled);
TileEncoder tile_encoder() {
  static const TileEncoder encode = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult state;
    const cudaError_t error =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &state);
    const bool ok = error == cudaSuccess && state == cudaDriverEntryPointSuccess;
    return ok ? reinterpret_cast<TileEncoder>(found) : nullptr;
  }();
  return encode;
}

// Rows of `width` pixels of a [B][T][D][64] map.
cudaError_t describe(CUtensorMap* map, const void* data, int64_t batch, int64_t steps, int64_t bands, int width) {
  const auto encode = tile_encoder();
  if (encode == nullptr) return cudaErrorNotSupported;
  const auto size = [](int64_t n) { return static_cast<cuuint64_t>(n); };
  const cuuint64_t sizes[4] = {kChannels, size(bands), size(steps), size(batch)};
  const cuuint64_t strides[3] = {kPixelBytes, size(bands * kPixelBytes), size(steps * bands * kPixelBytes)};
  const cuuint32_t box[4] = {kChannels, static_cast<cuuint32_t>(width), 1, 1}, every[4] = {1, 1, 1, 1};
  const CUresult result = encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, const_cast<void*>(data), sizes, strides, box,
                                 every, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

template <int kPixels>
cudaError_t run(const void* x, const uint32_t* packed, void* y, int64_t batch, int64_t steps, int64_t bands, int rows,
                void* stream) {
  const int64_t strips = bands <= kPixels ? 1 : (bands + kPixels - 3) / (kPixels - 2),
                chunks = (steps + rows - 1) / rows;
  const int64_t blocks = batch * strips * chunks;
  if (blocks >= int64_t{1} << 31) return cudaErrorInvalidValue;
  CUtensorMap from, to;
  cudaError_t error = describe(&from, x, batch, steps, bands, kPixels + 2);
  if (error == cudaSuccess) error = describe(&to, y, batch, steps, bands, strips == 1 ? kPixels : kPixels - 2);
  if (error != cudaSuccess) return error;
  return launch(residual_block<kPixels>, dim3(static_cast<unsigned>(blocks)), kThreads, sizeof(Shared<kPixels>), stream,
                from, to, packed, static_cast<int>(steps), static_cast<int>(bands), rows, static_cast<int>(chunks),
                static_cast<int>(strips));
}

}  // namespace
}  // namespace mtfa

MTFA_API int mtfa_residual_block_pack(const void* w1, const void* b1, const void* w2, const void* b2, int dtype,
                                      int channel_stride, int tap_stride, uint32_t* packed, int device, void* stream) {
  using namespace mtfa;
  static_assert(MTFA_RESIDUAL_BLOCK_WORDS == 2 * (kFragments * kGroup + kChannels), "what the caller allocates");
  if (const cudaError_t error = use_device(device)) return error;
  return with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    return launch(pack_weights<T>, dim3(kFragments, 2), kGroup, 0, stream, static_cast<const T*>(w1),
                  static_cast<const T*>(b1), static_cast<const T*>(w2), static_cast<const T*>(b2), channel_stride,
                  tap_stride, packed);
  });
}

MTFA_API int mtfa_residual_block(const void* x, const uint32_t* packed, void* y, int64_t batch, int64_t steps,
                                 int64_t bands, int pixels, int rows, int device, void* stream) {
  using namespace mtfa;
  constexpr int64_t kLimit = int64_t{1} << 30;
  if (batch < 0 || batch >= kLimit || steps < 0 || steps >= kLimit || bands < 0 || bands >= kLimit || rows < 1) {
    return cudaErrorInvalidValue;
  }
  if (batch == 0 || steps == 0 || bands == 0) return cudaSuccess;
  if (const cudaError_t error = use_device(device)) return error;
  int major = 0, minor = 0;
  if (const cudaError_t error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device)) return error;
  if (const cudaError_t error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device)) return error;
  if (major != 9 || minor != 0) return cudaErrorNotSupported;
  switch (pixels) {
    case 32:
      return run<32>(x, packed, y, batch, steps, bands, rows, stream);
    case 64:
      return run<64>(x, packed, y, batch, steps, bands, rows, stream);
    case 128:
      return run<128>(x, packed, y, batch, steps, bands, rows, stream);
    default:
      return cudaErrorInvalidValue;
  }
}
