// The part of a table that works on one type of feature maps.
#pragma once

#include <stdexcept>
#include <type_traits>

#include "core/kernels/kernels.h"

namespace mtfa {

// Throws std::invalid_argument for Bf16 where the instruction set has no bf16 products.
template <class T>
const TypedKernels<T>& typed_kernels(const Kernels& kernels) {
  if constexpr (std::is_same_v<T, Bf16>) {
    if (!kernels.bf16) throw std::invalid_argument("dtype: got bfloat16, allowed with this instruction set: float32");
    return *kernels.bf16;
  } else {
    return kernels.fp32;
  }
}

}  // namespace mtfa
