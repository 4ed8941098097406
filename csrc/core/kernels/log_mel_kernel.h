// Log-mel of a few frames at once, one frame per vector lane. Tables and layout: csrc/core/log_mel.cpp.
#pragma once

#include <cstdint>

#include "core/isa.h"

namespace mtfa {

constexpr int kMaxLogMelLanes = 8;

// One band of the sparse mel matrix: bins [first, first + count) with weights[offset ...].
struct MelBand {
  int32_t first, count;
  int64_t offset;
};

struct LogMelTables {
  int fft_length;     // N, a power of two >= 2
  int window_length;  // <= N, centred in the N samples of a frame
  int bands;
  double floor;  // added to the power before the logarithm; a normal number > 0
  const float* window;
  const double* fft_twiddles;    // of the complex FFT over M = N / 2, pass after pass; see log_mel.cpp
  const double* split_twiddles;  // exp(-2 pi i k / N) for k = 0 ... M / 2, (real, imaginary)
  const int32_t* fft_position;   // where the FFT leaves its output k, k = 0 ... M - 1
  const MelBand* mel_bands;
  const double* mel_weights;
};

// log_mel_lanes(): frames of one call of log_mel_group, at most kMaxLogMelLanes.
//
// log_mel_group: rows[lane] points at the window_length samples of that lane's frame; every lane needs a readable row.
// Writes `bands` values for each of the first `lanes` lanes at out + lane * bands. `scratch` holds
// log_mel_scratch(tables) doubles, aligned to 64 bytes. A lane's result depends on its row only.
#define MTFA_DECLARE(ns)                                                                                            \
  namespace ns {                                                                                                    \
  int log_mel_lanes();                                                                                              \
  int64_t log_mel_scratch(const LogMelTables& tables);                                                              \
  void log_mel_group(const LogMelTables& tables, const float* const* rows, int lanes, double* scratch, float* out); \
  }
MTFA_FOR_EACH_ISA(MTFA_DECLARE)
#undef MTFA_DECLARE

}  // namespace mtfa
