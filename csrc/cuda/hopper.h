// Hopper's instructions, one function each; nothing else here knows PTX. The CPU tests replace this header as a whole.
#ifndef MTFA_FAST_HOPPER_H_
#define MTFA_FAST_HOPPER_H_

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace mtfa {
namespace hopper {

#define MTFA_DEVICE __device__ __forceinline__

MTFA_DEVICE uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

// --- mbarriers: a phase ends when `count` arrivals and all expected bytes have come ---

MTFA_DEVICE void barrier_init(uint64_t* b, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(count));
}
MTFA_DEVICE void barriers_ready() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
MTFA_DEVICE void barrier_arrive(uint64_t* b) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(b)) : "memory");
}
// Arrives, and makes the phase wait for that many bytes of bulk copies too.
MTFA_DEVICE void barrier_arrive_expecting(uint64_t* b, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(b)), "r"(bytes)
               : "memory");
}
// Waits until the phase of this parity is over.
MTFA_DEVICE void barrier_wait(uint64_t* b, int parity) {
  asm volatile(
      "{ .reg .pred p; AGAIN: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1; @p bra DONE; bra AGAIN; DONE: }" ::
          "r"(shared_address(b)),
      "r"(parity)
      : "memory");
}
// bar.sync: `threads` threads of the block, barrier 1 to 15.
MTFA_DEVICE void named_barrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// bar.arrive: counts for the barrier without waiting at it.
MTFA_DEVICE void named_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// --- bulk copies of tiles; what lies outside the tensor reads as zero and is not written ---

MTFA_DEVICE void load_tile(void* tile, const CUtensorMap* map, uint64_t* barrier, int c, int d, int t, int b) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3,%4,%5,%6}], [%2];" ::
          "r"(shared_address(tile)),
      "l"(map), "r"(shared_address(barrier)), "r"(c), "r"(d), "r"(t), "r"(b)
      : "memory");
}
MTFA_DEVICE void store_tile(const CUtensorMap* map, const void* tile, int c, int d, int t, int b) {
  asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%2,%3,%4,%5}], [%1];" ::"l"(map),
               "r"(shared_address(tile)), "r"(c), "r"(d), "r"(t), "r"(b)
               : "memory");
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
// The tiles of this thread's stores may be overwritten / have reached memory.
MTFA_DEVICE void wait_stores_read() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }
MTFA_DEVICE void wait_stores() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }
// Makes this thread's ordinary writes to shared memory visible to bulk copies and to wgmma.
MTFA_DEVICE void fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// --- matrix products of a warpgroup: d (64 x N, fp32) += a (64 x 16, registers) * b (16 x N, shared memory) ---

// b: N rows of 16 bf16 each (K-major), 128 bytes from row to row, 128-byte swizzle, 1024 bytes from 8 rows to the
// next 8.
MTFA_DEVICE uint64_t descriptor(uint32_t address, int base_offset = 0) {
  return static_cast<uint64_t>((address & 0x3FFFF) >> 4) | uint64_t{1} << 16 | uint64_t{64} << 32 |
         static_cast<uint64_t>(base_offset) << 49 | uint64_t{1} << 62;
}
MTFA_DEVICE void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
// The empty statements keep the compiler from reading the sums before the wait.
template <int kCount>
MTFA_DEVICE void products_end(float (&d)[kCount]) {
  asm volatile("wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;" ::: "memory");
#pragma unroll
  for (int i = 0; i < kCount; i++) asm volatile("" : "+f"(d[i])::"memory");
}

#define MTFA_D8(i)                                                                                            \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), \
      "+f"(d[i + 7])
#define MTFA_A4 "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3])
#define MTFA_R16 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define MTFA_R32 MTFA_R16 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define MTFA_R64                                                          \
  MTFA_R32                                                                \
  ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48," \
  "%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"

MTFA_DEVICE void multiply(float (&d)[16], const uint32_t* a, uint64_t b) {
  asm volatile("{ .reg .pred p; setp.ne.b32 p, 1, 0; wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {" MTFA_R16
               "}, {%16,%17,%18,%19}, %20, p, 1, 1, 0; }"
               : MTFA_D8(0), MTFA_D8(8)
               : MTFA_A4, "l"(b));
}
MTFA_DEVICE void multiply(float (&d)[32], const uint32_t* a, uint64_t b) {
  asm volatile("{ .reg .pred p; setp.ne.b32 p, 1, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" MTFA_R32
               "}, {%32,%33,%34,%35}, %36, p, 1, 1, 0; }"
               : MTFA_D8(0), MTFA_D8(8), MTFA_D8(16), MTFA_D8(24)
               : MTFA_A4, "l"(b));
}
MTFA_DEVICE void multiply(float (&d)[64], const uint32_t* a, uint64_t b) {
  asm volatile("{ .reg .pred p; setp.ne.b32 p, 1, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" MTFA_R64
               "}, {%64,%65,%66,%67}, %68, p, 1, 1, 0; }"
               : MTFA_D8(0), MTFA_D8(8), MTFA_D8(16), MTFA_D8(24), MTFA_D8(32), MTFA_D8(40), MTFA_D8(48), MTFA_D8(56)
               : MTFA_A4, "l"(b));
}

// --- four 8 x 8 matrices of 16-bit numbers between a warp's registers and shared memory, transposed ---
// Lane l gives the address of row l % 8 of matrix l / 8, and holds elements (l % 4 * 2, +1) of column l / 4 of each.

MTFA_DEVICE void store_transposed(uint32_t address, const uint32_t (&v)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(address), "r"(v[0]),
               "r"(v[1]), "r"(v[2]), "r"(v[3])
               : "memory");
}
MTFA_DEVICE void load_transposed(uint32_t address, uint32_t (&v)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
               : "r"(address)
               : "memory");
}
MTFA_DEVICE uint32_t pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
MTFA_DEVICE float unpack_low(uint32_t pair) { return __uint_as_float(pair << 16); }
MTFA_DEVICE float unpack_high(uint32_t pair) { return __uint_as_float(pair & 0xFFFF0000u); }

// --- registers of a warpgroup ---

template <int kCount>
MTFA_DEVICE void raise_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
MTFA_DEVICE void lower_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}

}  // namespace hopper
}  // namespace mtfa

#endif  // MTFA_FAST_HOPPER_H_
