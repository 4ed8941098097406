#include "core/int8.h"

#include "core/engine.h"

namespace mtfa {

namespace {

// Null where the binary or the machine has none.
void (*vnni_convolution(Isa isa))(const ConvRows<uint8_t>&) {
#ifdef MTFA_HAVE_AVX2VNNI
  if (isa == Isa::avx2 && has_avx_vnni()) return avx2vnni::conv3x3_int8;
#endif
#ifdef MTFA_HAVE_AVX512VNNI
  if (isa == Isa::avx512 && has_avx512_vnni()) return avx512vnni::conv3x3_int8;
#endif
  (void)isa;
  return nullptr;
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
    if (auto* convolution = vnni_convolution(isa)) {
      all.push_back({std::string(name(isa)) + "vnni", "vpdpbusd", &table, table.int8});
      all.back().typed.conv3x3 = convolution;
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
    if (each.name == name(isa) || each.name == std::string(name(isa)) + "vnni") best = &each;
  }
  return *best;
}

}  // namespace mtfa
