// Declarations of one instruction set's kernels, for its table (table.cpp).
#pragma once

#include "core/kernels/simd.h"

namespace mtfa {
namespace MTFA_ISA_NAMESPACE {

#if defined(__AMX_BF16__) || defined(MTFA_EMULATE_AMX)
constexpr int kTileChannels = 32;
#else
constexpr int kTileChannels = 0;
#endif

template <class T>
void conv3x3_rows(const ConvRows<T>&);
template <class T>
void stem_row(const StemRow<T>&);
template <class T>
void pool_rows(const T* a, const T* b, T* out, int width, int channels);
template <class T>
void upsample_add_row(const T* skip, const T* low, T* out, int width, int channels);
template <class T>
void dense_rows(const Dense<T>&);
template <class T>
void gate_row(const GateRow<T>&);
void gru_run(const GruRun&);

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa
