// Which instruction set runs. Kernels (csrc/core/kernels) are compiled once per instruction set, each into a namespace
// of that name; everything else is compiled for the machine's baseline, so nothing that the CPU lacks is ever executed.
#pragma once

#include <string>
#include <vector>

namespace mtfa {

// Ordered: each one includes those of its architecture before it. `avx512bf16` and `avx512` are one choice for the
// user. On ARM64 `portable` is NEON, which every CPU there has, and neonbf16 adds the products of bf16.
enum class Isa { portable, avx2, avx512, avx512bf16, amx, neonbf16 };

const char* name(Isa isa);

// Built into this binary, and this CPU and operating system have it. Asks Linux for the AMX tile state once.
bool available(Isa isa);
std::vector<Isa> available_isas();
Isa best_isa();
bool has_avx512_bf16();
// 8-bit products beside AVX2 and beside AVX-512; avx512bf16 and amx always have them.
bool has_avx_vnni();
bool has_avx512_vnni();
bool has_neon_dot();   // sdot
bool has_neon_i8mm();  // usdot

// The instruction set that MTFA_FAST_ISA=portable|avx2|avx512|amx forces (avx512: with bf16 where present), or
// best_isa() where the variable is unset or empty. Throws std::invalid_argument, naming what is allowed, for anything
// else and for what this machine lacks.
Isa chosen_isa();

// From exactly its name, avx512 without bf16 included; the empty string is best_isa(). Throws as chosen_isa().
Isa parse_isa(const std::string& text);

}  // namespace mtfa

// MTFA_FOR_EACH_ISA(X): X(ns) for every namespace that was built. To declare a kernel in each:
//   #define MTFA_DECLARE(ns) namespace ns { void scale(float* x, int n); }
//   MTFA_FOR_EACH_ISA(MTFA_DECLARE)
//   #undef MTFA_DECLARE
// MTFA_SELECT(isa, scale): pointer to the function of that name in the namespace of `isa`.
#ifdef MTFA_HAVE_AVX2
#define MTFA_IF_AVX2(...) __VA_ARGS__
#else
#define MTFA_IF_AVX2(...)
#endif
#ifdef MTFA_HAVE_AVX512
#define MTFA_IF_AVX512(...) __VA_ARGS__
#else
#define MTFA_IF_AVX512(...)
#endif
#ifdef MTFA_HAVE_AVX512BF16
#define MTFA_IF_AVX512BF16(...) __VA_ARGS__
#else
#define MTFA_IF_AVX512BF16(...)
#endif
#ifdef MTFA_HAVE_AMX
#define MTFA_IF_AMX(...) __VA_ARGS__
#else
#define MTFA_IF_AMX(...)
#endif

#ifdef MTFA_HAVE_NEONBF16
#define MTFA_IF_NEONBF16(...) __VA_ARGS__
#else
#define MTFA_IF_NEONBF16(...)
#endif

#define MTFA_FOR_EACH_ISA(X) \
  X(portable)                \
  MTFA_IF_AVX2(X(avx2))      \
  MTFA_IF_AVX512(X(avx512)) MTFA_IF_AVX512BF16(X(avx512bf16)) MTFA_IF_AMX(X(amx)) MTFA_IF_NEONBF16(X(neonbf16))

#define MTFA_SELECT(isa, function)                                                             \
  ([](::mtfa::Isa wanted) -> decltype(& ::mtfa::portable::function) {                          \
    switch (wanted) {                                                                          \
      MTFA_IF_AVX2(case ::mtfa::Isa::avx2 : return &::mtfa::avx2::function;)                   \
      MTFA_IF_AVX512(case ::mtfa::Isa::avx512 : return &::mtfa::avx512::function;)             \
      MTFA_IF_AVX512BF16(case ::mtfa::Isa::avx512bf16 : return &::mtfa::avx512bf16::function;) \
      MTFA_IF_AMX(case ::mtfa::Isa::amx : return &::mtfa::amx::function;)                      \
      MTFA_IF_NEONBF16(case ::mtfa::Isa::neonbf16 : return &::mtfa::neonbf16::function;)       \
      default:                                                                                 \
        return &::mtfa::portable::function;                                                    \
    }                                                                                          \
  }(isa))
