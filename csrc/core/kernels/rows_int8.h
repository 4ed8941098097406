// Declarations of one instruction set's kernels for 8-bit maps, for its table (table.cpp).
#pragma once

#include "core/kernels/simd.h"

namespace mtfa {
namespace MTFA_ISA_NAMESPACE {

void conv3x3_int8(const ConvRows<uint8_t>&);
void stem_int8(const StemRow<uint8_t>&);
void dense_int8(const Dense<uint8_t>&);
void gate_int8(const GateRow<uint8_t>&);
void pool_int8(const uint8_t* a, const uint8_t* b, uint8_t* out, int width, int channels);
void upsample_add_int8(const uint8_t* skip, const uint8_t* low, uint8_t* out, int width, int channels);

constexpr TypedKernels<uint8_t> int8_kernels() {
  return {conv3x3_int8, stem_int8, dense_int8, gate_int8, pool_int8, upsample_add_int8};
}

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa
