// The 3x3 convolution of each instruction set.
#include "core/kernels/rows.h"
#include "core/kernels/winograd.h"

namespace mtfa {
namespace MTFA_ISA_NAMESPACE {

template <class T>
void conv3x3_rows(const ConvRows<T>& args) {
  conv3x3_winograd<T>(args);
}

template void conv3x3_rows<float>(const ConvRows<float>&);
#ifdef __AVX512BF16__
template void conv3x3_rows<Bf16>(const ConvRows<Bf16>&);
#endif

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa
