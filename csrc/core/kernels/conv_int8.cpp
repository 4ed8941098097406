// The 3x3 convolution of 8-bit maps of each instruction set; compiled once more for what is an addition to one.
#include "core/kernels/rows_int8.h"
#include "core/kernels/winograd_int8.h"

namespace mtfa {
namespace MTFA_ISA_NAMESPACE {

void conv3x3_int8(const ConvRows<uint8_t>& args) { winograd_int8(args); }

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa
