#include "core/isa.h"

#include <cstdlib>
#include <stdexcept>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace mtfa {
namespace {

constexpr Isa kAll[] = {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512bf16, Isa::amx, Isa::neonbf16};

struct Machine {
  bool avx2 = false, avx512 = false, avx512bf16 = false, amx = false, neonbf16 = false;
  bool avx_vnni = false, avx512_vnni = false, neon_dot = false, neon_i8mm = false;
};

#if defined(__x86_64__)
struct Registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf) {
  Registers r;
  if (!__get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d)) return Registers{};
  return r;
}

bool bit(unsigned value, int position) { return (value >> position) & 1u; }

// Which register states the operating system saves: bit 1 XMM, 2 YMM, 5 to 7 AVX-512, 17 and 18 AMX tiles.
unsigned long long saved_states() {
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<unsigned long long>(high) << 32) | low;
}

// Linux hands out the 8 KiB of tile data per thread only to processes that ask.
bool amx_permitted() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

Machine detect() {
  Machine machine;
  const Registers one = cpuid(1, 0), seven = cpuid(7, 0);
  if (!bit(one.c, 27)) return machine;  // no OSXSAVE: xgetbv itself would be illegal
  const unsigned long long states = saved_states();
  const bool ymm = (states & 0x6) == 0x6, zmm = ymm && (states & 0xe0) == 0xe0, tiles = (states & 0x60000) == 0x60000;
  const bool avx = bit(one.c, 28), fma = bit(one.c, 12), f16c = bit(one.c, 29);
  machine.avx2 = ymm && avx && fma && f16c && bit(seven.b, 5);
  machine.avx512 = zmm && machine.avx2 && bit(seven.b, 16) && bit(seven.b, 17) && bit(seven.b, 30) && bit(seven.b, 31);
  const Registers more = seven.a >= 1 ? cpuid(7, 1) : Registers{};
  machine.avx_vnni = machine.avx2 && bit(more.a, 4);
  machine.avx512_vnni = machine.avx512 && bit(seven.c, 11);
  machine.avx512bf16 = machine.avx512_vnni && bit(more.a, 5);
  const bool amx = bit(seven.d, 22) && bit(seven.d, 24) && bit(seven.d, 25);  // bf16, tiles, int8
  machine.amx = machine.avx512bf16 && tiles && amx && amx_permitted();
  return machine;
}
#elif defined(__aarch64__) && defined(__linux__)
Machine detect() {
  // HWCAP_ASIMDDP, HWCAP2_I8MM, HWCAP2_BF16, which older headers lack
  constexpr unsigned long kDot = 1ul << 20, kI8mm = 1ul << 13, kBf16 = 1ul << 14;
  Machine machine;
  machine.neon_dot = (getauxval(AT_HWCAP) & kDot) != 0;
  machine.neon_i8mm = (getauxval(AT_HWCAP2) & kI8mm) != 0;
  machine.neonbf16 = (getauxval(AT_HWCAP2) & kBf16) != 0;
  return machine;
}
#else
Machine detect() { return Machine{}; }
#endif

const Machine& machine() {
  static const Machine found = detect();
  return found;
}

bool built(Isa isa) {
  switch (isa) {
#define MTFA_CASE(ns) \
  case Isa::ns:       \
    return true;
    MTFA_FOR_EACH_ISA(MTFA_CASE)
#undef MTFA_CASE
    default:
      return false;
  }
}

}  // namespace

const char* name(Isa isa) {
  static constexpr const char* kNames[] = {"portable", "avx2", "avx512", "avx512bf16", "amx", "neonbf16"};
  return kNames[static_cast<int>(isa)];
}

bool available(Isa isa) {
  const Machine& m = machine();
  const bool has[] = {true, m.avx2, m.avx512, m.avx512bf16, m.amx, m.neonbf16};
  return built(isa) && has[static_cast<int>(isa)];
}

std::vector<Isa> available_isas() {
  std::vector<Isa> found;
  for (Isa isa : kAll) {
    if (available(isa)) found.push_back(isa);
  }
  return found;
}

Isa best_isa() { return available_isas().back(); }

bool has_avx512_bf16() { return available(Isa::avx512bf16); }
bool has_avx_vnni() { return machine().avx_vnni; }
bool has_avx512_vnni() { return machine().avx512_vnni; }
bool has_neon_dot() { return machine().neon_dot; }
bool has_neon_i8mm() { return machine().neon_i8mm; }

Isa parse_isa(const std::string& text) {
  if (text.empty()) return best_isa();
  std::string allowed;
  for (Isa isa : available_isas()) {
    if (text == name(isa)) return isa;
    allowed += (allowed.empty() ? "" : ", ") + std::string(name(isa));
  }
  throw std::invalid_argument("instruction set (MTFA_FAST_ISA): got '" + text +
                              "', allowed on this machine: " + allowed);
}

Isa chosen_isa() {
  const char* text = std::getenv("MTFA_FAST_ISA");
  const Isa isa = parse_isa(text ? text : "");
  return isa == Isa::avx512 && has_avx512_bf16() ? Isa::avx512bf16 : isa;
}

}  // namespace mtfa
