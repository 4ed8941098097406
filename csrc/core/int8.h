// Which kernels make 8-bit products.
#pragma once

#include <string>
#include <vector>

#include "core/isa.h"
#include "core/kernels/kernels.h"

namespace mtfa {

// Kernels of one instruction set for 8-bit maps: VNNI's products are an addition to AVX2 and to AVX-512, and sdot and
// usdot to NEON, that not every machine has.
struct Int8Kernels {
  std::string name;      // the instruction set's, with "vnni", "dot" or "i8mm" behind it for the addition
  std::string products;  // the instruction that multiplies
  const Kernels* table;  // the instruction set's
  TypedKernels<uint8_t> typed;
};

// All that this machine can run, each one after the instruction set that it adds to.
const std::vector<Int8Kernels>& int8_kernels();
// The best for an instruction set.
const Int8Kernels& int8_kernels(Isa isa);

}  // namespace mtfa
