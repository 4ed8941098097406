// The most arithmetic that an instruction set can do: what benchmarks divide by.
#pragma once

#include <cstdint>

#include "core/isa.h"

namespace mtfa {

// Each runs `steps` rounds of independent multiply-adds on registers and returns the floating-point operations done.
// peak_bf16: products of bf16 summed in float, on tiles where the instruction set has them; 0 where it has neither.
#define MTFA_DECLARE_PEAK(ns)      \
  namespace ns {                   \
  double peak_fp32(int64_t steps); \
  double peak_bf16(int64_t steps); \
  }
MTFA_FOR_EACH_ISA(MTFA_DECLARE_PEAK)
#undef MTFA_DECLARE_PEAK

}  // namespace mtfa
