// Hopper's instructions on the CPU, in place of csrc/cuda/hopper.h (the same include guard; g++ includes this first).
// Written to be as unkind as the hardware may be: bulk copies and products land late, stores read their tile late, and
// what a thread wrote to shared memory reads as NaN to copies and products until fence.proxy.async has been executed by
// the whole warp. Compiled with SHIM_ROW_NUMBERS it is hardware of the other kind: products take a row's place in the
// swizzle pattern from its number and the descriptor's base offset, not from its address.
#ifndef MTFA_FAST_HOPPER_H_
#define MTFA_FAST_HOPPER_H_

#include <limits>

#include "cuda.h"
#include "cuda_bf16.h"
#include "cuda_runtime.h"

#define MTFA_DEVICE inline

namespace shim {

struct MBarrier {
  int count = 0, pending = 0, phase = 0;
  long bytes = 0;
};
struct Product {
  const std::uint32_t* a;
  std::uint64_t b;
};
struct Hopper {
  long block = -1;
  std::map<std::uint32_t, MBarrier> barriers;
  struct Thread {
    std::vector<Product> products;
    float* sum;
    std::uint32_t address, matrices[4];
    std::uint32_t* loaded;
    long fence = 0;
    int stores = 0;
  };
  std::vector<Thread> threads;
  std::vector<long> products_done;
  struct Write {
    int warp = -1;
    long time = 0;
  };
  std::vector<Write> writes = std::vector<Write>(227 * 64);  // the last ordinary write to each 16 bytes
  long clock = 0;
};
inline Hopper& hopper() {
  static Hopper h;
  if (h.block != block().serial) {
    h = Hopper{};
    h.block = block().serial;
    h.threads.resize(block().fibres.size());
    h.products_done.resize(block().fibres.size() / 128 + 1);
  }
  return h;
}
inline Hopper::Thread& me() { return hopper().threads[current()]; }

inline unsigned char* shared(std::uint32_t address) { return mtfa::mtfa_dynamic_shared + address; }
inline std::uint32_t swizzled(std::uint32_t address) { return address ^ ((address >> 7 & 7) << 4); }

// Of 16-bit number k of row n of a matrix that a descriptor describes.
inline std::uint32_t described(std::uint64_t d, int n, int k) {
  const std::uint32_t start = (d & 0x3FFF) << 4, eight_rows = (d >> 32 & 0x3FFF) << 4;
  const std::uint32_t address = start + n / 8 * eight_rows + n % 8 * 128 + k * 2;
#ifdef SHIM_ROW_NUMBERS
  return address ^ ((n + (d >> 49 & 7)) & 7) << 4;
#else
  if ((d >> 49 & 7) != 0) fail("descriptor: not with base offset 0");
  return swizzled(address);
#endif
}

inline bool visible_to_async(std::uint32_t address) {
  const auto& w = hopper().writes[address / 16];
  if (w.warp < 0) return true;
  for (int lane = 0; lane < 32; lane++)
    if (hopper().threads[w.warp * 32 + lane].fence < w.time) return false;
  return true;
}
inline float read_async(std::uint32_t address) {
  __nv_bfloat16 v;
  std::memcpy(&v, shared(address), 2);
  return visible_to_async(address) ? static_cast<float>(v) : std::numeric_limits<float>::quiet_NaN();
}

inline MBarrier& barrier_at(std::uint32_t address) {
  if (hopper().barriers.count(address) == 0) fail("mbarrier used before its initialisation");
  return hopper().barriers[address];
}
inline void advance(MBarrier& b) {
  if (b.pending < 0) fail("more arrivals than the mbarrier counts");
  if (b.pending > 0 || b.bytes > 0) return;
  b.phase ^= 1;
  b.pending = b.count;
  block().idle = 0;
}

// All products of a warpgroup since the last wait, 64 x N += 64 x 16 times 16 x N each.
template <int N>
void multiply_group(int group) {
  static float a[64][16], b[16][N];
  auto* threads = &hopper().threads[group * 128];
  for (std::size_t p = 0; p < threads[0].products.size(); p++) {
    const std::uint64_t d = threads[0].products[p].b;
    if (d >> 62 != 1) fail("descriptor: not 128-byte swizzle");
    for (int t = 0; t < 128; t++) {
      if (threads[t].products[p].b != d) fail("descriptor: not the same in all threads");
      for (int q = 0; q < 4; q++)
        for (int e = 0; e < 2; e++) {
          const std::uint32_t bits = threads[t].products[p].a[q] >> (16 * e) << 16;
          a[t / 32 * 16 + t % 32 / 4 + (q & 1) * 8][t % 4 * 2 + e + (q >> 1) * 8] = __uint_as_float(bits);
        }
    }
    for (int n = 0; n < N; n++)
      for (int k = 0; k < 16; k++) b[k][n] = read_async(described(d, n, k));
    static float sum[64][N];
    std::memset(sum, 0, sizeof sum);
    for (int m = 0; m < 64; m++)
      for (int k = 0; k < 16; k++)
        for (int n = 0; n < N; n++) sum[m][n] += a[m][k] * b[k][n];
    for (int t = 0; t < 128; t++)
      for (int j = 0; j < N / 2; j++)
        threads[t].sum[j] += sum[t / 32 * 16 + t % 32 / 4 + (j >> 1 & 1) * 8][j / 4 * 8 + t % 4 * 2 + (j & 1)];
  }
  for (int t = 0; t < 128; t++) threads[t].products.clear();
  hopper().products_done[group]++;
}

}  // namespace shim

namespace mtfa {
namespace hopper {

using std::uint32_t;
using std::uint64_t;

inline uint32_t shared_address(const void* p) {
  const auto offset = static_cast<const unsigned char*>(p) - mtfa_dynamic_shared;
  if (offset < 0 || offset >= static_cast<long>(sizeof mtfa_dynamic_shared))
    shim::fail("not an address in shared memory");
  return static_cast<uint32_t>(offset);
}

inline void barrier_init(uint64_t* b, int count) { shim::hopper().barriers[shared_address(b)] = {count, count, 0, 0}; }
inline void barriers_ready() {}
inline void barrier_arrive(uint64_t* b) {
  auto& m = shim::barrier_at(shared_address(b));
  m.pending--;
  shim::advance(m);
}
inline void barrier_arrive_expecting(uint64_t* b, int bytes) {
  shim::barrier_at(shared_address(b)).bytes += bytes;
  barrier_arrive(b);
}
inline void barrier_wait(uint64_t* b, int parity) {
  auto& m = shim::barrier_at(shared_address(b));
  shim::wait_until([&] { return m.phase != parity; });
}
inline void named_barrier(int id, int threads) { shim::barrier(id, threads); }
inline void named_arrive(int id, int threads) { shim::arrive(id, threads); }

// Calls f(address of 16 bytes in the tile, address in memory or null outside the tensor) for each 16 bytes of the box.
template <typename F>
void for_each_chunk(const CUtensorMap& map, uint32_t tile, int c, int d, int t, int b, F f) {
  if (c != 0 || map.box[0] != 64 || map.box[2] != 1 || map.box[3] != 1)
    shim::fail("tile: not a row of 64-channel pixels");
  for (int i = 0; i < static_cast<int>(map.box[1]); i++) {
    const auto in = [&](int index, int dimension) {
      return index >= 0 && static_cast<cuuint64_t>(index) < map.sizes[dimension];
    };
    const bool inside = in(d + i, 1) && in(t, 2) && in(b, 3);
    unsigned char* pixel =
        inside ? map.data + map.strides[0] * (d + i) + map.strides[1] * t + map.strides[2] * b : nullptr;
    for (uint32_t k = 0; k < 128; k += 16) f(shim::swizzled(tile + i * 128 + k), inside ? pixel + k : nullptr);
  }
}

inline void load_tile(void* tile, const CUtensorMap* map, uint64_t* barrier, int c, int d, int t, int b) {
  const uint32_t address = shared_address(tile), barrier_address = shared_address(barrier);
  if (address % 1024 != 0) shim::fail("tile: not aligned with the swizzle pattern");
  shim::later([=, map = *map] {
    for_each_chunk(map, address, c, d, t, b, [](uint32_t to, const unsigned char* from) {
      from == nullptr ? std::memset(shim::shared(to), 0, 16) : std::memcpy(shim::shared(to), from, 16);
      shim::hopper().writes[to / 16].warp = -1;
    });
    auto& m = shim::barrier_at(barrier_address);
    m.bytes -= static_cast<long>(map.box[1]) * 128;
    shim::advance(m);
  });
}
inline void store_tile(const CUtensorMap* map, const void* tile, int c, int d, int t, int b) {
  const uint32_t address = shared_address(tile);
  if (address % 1024 != 0) shim::fail("tile: not aligned with the swizzle pattern");
  const int thread = shim::current();
  shim::me().stores++;
  shim::later([=, map = *map] {
    for_each_chunk(map, address, c, d, t, b, [](uint32_t from, unsigned char* to) {
      if (to == nullptr) return;
      shim::visible_to_async(from) ? std::memcpy(to, shim::shared(from), 16) : std::memset(to, 0xFF, 16);
    });
    shim::hopper().threads[thread].stores--;
  });
}
inline void wait_stores() {
  shim::wait_until([] { return shim::me().stores == 0; });
}
inline void wait_stores_read() { wait_stores(); }
inline void fence_async() { shim::me().fence = ++shim::hopper().clock; }

inline uint64_t descriptor(uint32_t address, int base_offset = 0) {
  return static_cast<uint64_t>((address & 0x3FFFF) >> 4) | uint64_t{1} << 16 | uint64_t{64} << 32 |
         static_cast<uint64_t>(base_offset) << 49 | uint64_t{1} << 62;
}
inline void products_begin() {}
template <int kCount>
void multiply(float (&d)[kCount], const uint32_t* a, uint64_t b) {
  shim::me().sum = d;
  shim::me().products.push_back({a, b});
}
template <int kCount>
void products_end(float (&)[kCount]) {
  const int group = shim::current() / 128;
  const long done = shim::hopper().products_done[group];
  shim::together(100 + group, 128, [=] {
    if (shim::random_number() % 2 == 0) {
      shim::multiply_group<2 * kCount>(group);
    } else {
      shim::later([=] { shim::multiply_group<2 * kCount>(group); });
    }
  });
  shim::wait_until([=] { return shim::hopper().products_done[group] > done; });
}

// Does f(matrix, row, column, the 16 bits in shared memory, the half register) for a warp's four matrices.
template <typename F>
void for_each_element(int warp, F f) {
  auto* lanes = &shim::hopper().threads[warp * 32];
  for (int m = 0; m < 4; m++)
    for (int row = 0; row < 8; row++)
      for (int column = 0; column < 8; column++)
        f(lanes[m * 8 + row].address + column * 2, lanes[column * 4 + row / 2], m, row & 1);
}
inline void store_transposed(uint32_t address, const uint32_t (&v)[4]) {
  const int warp = shim::current() / 32;
  shim::me().address = address;
  std::memcpy(shim::me().matrices, v, sizeof v);
  shim::together(200 + warp, 32, [=] {
    shim::hopper().clock++;
    for_each_element(warp, [&](uint32_t to, shim::Hopper::Thread& lane, int m, int half) {
      const auto bits = static_cast<std::uint16_t>(lane.matrices[m] >> (16 * half));
      std::memcpy(shim::shared(to), &bits, 2);
      shim::hopper().writes[to / 16] = {warp, shim::hopper().clock};
    });
  });
}
inline void load_transposed(uint32_t address, uint32_t (&v)[4]) {
  const int warp = shim::current() / 32;
  shim::me().address = address;
  std::memset(v, 0, sizeof v);
  shim::me().loaded = v;
  shim::together(200 + warp, 32, [=] {
    for_each_element(warp, [&](uint32_t from, shim::Hopper::Thread& lane, int m, int half) {
      std::uint16_t bits;
      std::memcpy(&bits, shim::shared(from), 2);
      lane.loaded[m] |= static_cast<uint32_t>(bits) << (16 * half);
    });
  });
}
inline uint32_t pack(float low, float high) {
  return __nv_bfloat16(low).bits | static_cast<uint32_t>(__nv_bfloat16(high).bits) << 16;
}
inline float unpack_low(uint32_t pair) { return __uint_as_float(pair << 16); }
inline float unpack_high(uint32_t pair) { return __uint_as_float(pair & 0xFFFF0000u); }

template <int kCount>
void raise_registers() {}
template <int kCount>
void lower_registers() {}

}  // namespace hopper
}  // namespace mtfa

#endif  // MTFA_FAST_HOPPER_H_
