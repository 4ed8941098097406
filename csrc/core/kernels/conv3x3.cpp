// The 3x3 convolution of each instruction set.
#include "core/kernels/conv_tiles.h"
#include "core/kernels/rows.h"
#include "core/kernels/winograd.h"

namespace mtfa {
namespace MTFA_ISA_NAMESPACE {

template <class T>
void conv3x3_rows(const ConvRows<T>& args) {
  winograd<T>(args);
}

template void conv3x3_rows<float>(const ConvRows<float>&);
#if defined(__AMX_BF16__) || defined(MTFA_EMULATE_AMX)
template <>
void conv3x3_rows<Bf16>(const ConvRows<Bf16>& args) {
  if (args.channels % kTileChannels == 0) return conv3x3_tiles(args);
  winograd<Bf16>(args);
}
#elif defined(MTFA_HAS_BF16)
template void conv3x3_rows<Bf16>(const ConvRows<Bf16>&);
#endif

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa
