// This instruction set's table of kernels.
#include "core/kernels/gemm.h"
#include "core/kernels/rows.h"
#include "core/kernels/rows_int8.h"
#include "core/kernels/tiles_int8.h"

namespace mtfa {
namespace MTFA_ISA_NAMESPACE {

template <class T>
constexpr TypedKernels<T> typed_kernels() {
  return {conv3x3_rows<T>, stem_row<T>, dense_rows<T>, gate_row<T>, pool_rows<T>, upsample_add_row<T>};
}

const Kernels& kernels() {
#ifdef MTFA_HAS_BF16
  static const TypedKernels<Bf16> bf16 = typed_kernels<Bf16>();
  const TypedKernels<Bf16>* const bf16_kernels = &bf16;
#else
  const TypedKernels<Bf16>* const bf16_kernels = nullptr;
#endif
  static const Kernels table = {kPanel,       4 * kWidth,     kTileChannels, typed_kernels<float>(),
                                bf16_kernels, int8_kernels(), kInt8Depth,    gru_run};
  return table;
}

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa
