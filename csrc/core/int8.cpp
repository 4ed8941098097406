#include "core/int8.h"

#include "core/engine.h"

namespace mtfa {

namespace {

struct Addition {
  const char *suffix, *products;
  void (*convolution)(const ConvRows<uint8_t>&);
};

// What the binary and the machine have for an instruction set, the best last.
std::vector<Addition> additions(Isa isa) {
  std::vector<Addition> all;
#ifdef MTFA_HAVE_AVX2VNNI
  if (isa == Isa::avx2 && has_avx_vnni()) all.push_back({"vnni", "vpdpbusd", avx2vnni::conv3x3_int8});
#endif
#ifdef MTFA_HAVE_AVX512VNNI
  if (isa == Isa::avx512 && has_avx512_vnni()) all.push_back({"vnni", "vpdpbusd", avx512vnni::conv3x3_int8});
#endif
#ifdef MTFA_HAVE_NEONDOT
  if (has_neon_dot()) all.push_back({"dot", "sdot", neondot::conv3x3_int8});
#endif
#ifdef MTFA_HAVE_NEONI8MM
  if (has_neon_i8mm()) all.push_back({"i8mm", "usdot", neoni8mm::conv3x3_int8});
#endif
  (void)isa;
  return all;
}

const char* products(Isa isa) {
  static constexpr const char* kNames[] = {"plain code", "vpmaddubsw", "vpmaddubsw",
                                           "vpdpbusd",   "tdpbusd",    "plain code"};
  return kNames[static_cast<int>(isa)];
}

std::vector<Int8Kernels> found() {
  std::vector<Int8Kernels> all;
  for (Isa isa : available_isas()) {
    const Kernels& table = kernels_of(isa);
    all.push_back({name(isa), products(isa), &table, table.int8});
    for (const Addition& more : additions(isa)) {
      all.push_back({std::string(name(isa)) + more.suffix, more.products, &table, table.int8});
      all.back().typed.conv3x3 = more.convolution;
    }
  }
  return all;
}

}  // namespace

const std::vector<Int8Kernels>& int8_kernels() {
  static const std::vector<Int8Kernels> all = found();
  return all;
}

const Int8Kernels& int8_kernels(Isa isa) {
  const Int8Kernels* best = nullptr;
  for (const Int8Kernels& each : int8_kernels()) {
    if (each.table == &kernels_of(isa)) best = &each;
  }
  return *best;
}

}  // namespace mtfa
