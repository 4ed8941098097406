// Log-mel spectrogram: log(mel . |FFT(window * frame)|^2 + floor), natural logarithm, computed in double precision.
#pragma once

#include <cstdint>
#include <vector>

#include "core/isa.h"
#include "core/kernels/log_mel_kernel.h"
#include "core/thread_pool.h"

namespace mtfa {

// Immutable and re-entrant after construction.
class LogMel {
 public:
  static constexpr int64_t kMaxFftLength = 1 << 20, kMaxMelBands = 1 << 16, kMaxHop = 1 << 30;

  // window (window_length,); mel (mel_bands, fft_length / 2 + 1), row after row. Throws std::invalid_argument unless
  // fft_length is a power of two >= 2, 1 <= window_length <= fft_length, mel_bands >= 1, hop >= 1, none is larger than
  // its limit above and floor is a finite, normal number > 0.
  LogMel(const float* window, int64_t window_length, const float* mel, int64_t mel_bands, int64_t hop,
         int64_t fft_length, double floor, Isa isa = chosen_isa());

  int mel_bands() const { return static_cast<int>(mel_bands_.size()); }
  int64_t hop() const { return hop_; }
  int fft_length() const { return fft_length_; }
  int window_length() const { return static_cast<int>(window_.size()); }
  // Frame i reads no sample from i * hop + reach() on.
  int64_t reach() const { return window_length() + (fft_length_ - window_length()) / 2 - fft_length_ / 2; }

  // Frame i of a recording is centred on its sample i * hop; of the fft_length samples around it those under the
  // window count, that is [i * hop - fft_length / 2 + (fft_length - window_length) / 2, ... + window_length).
  //
  // frames(): frames [first, first + count), count * mel_bands values, to out. samples[0 .. available) are the
  // recording's samples [sample_offset, sample_offset + available); every other sample reads as zero. So a caller that
  // holds a part of a recording gets the right frames as long as it holds all samples under their windows, or the
  // recording ends where the part does. Results do not depend, to the bit, on how frames are grouped into calls.
  // Throws std::invalid_argument for negative sizes.
  void frames(const float* samples, int64_t available, int64_t sample_offset, int64_t first, int64_t count,
              float* out) const;

  // The same for a whole recording, 1 + n / hop frames, by the threads of a pool.
  void frames(const float* samples, int64_t n, float* out, ThreadPool& pool) const;

 private:
  LogMelTables tables() const;

  int64_t hop_;
  int fft_length_;
  double floor_;
  std::vector<float> window_;
  std::vector<double> fft_twiddles_, split_twiddles_, mel_weights_;
  std::vector<int32_t> fft_position_;
  std::vector<MelBand> mel_bands_;
  decltype(&portable::log_mel_group) group_;
  int lanes_;
  int64_t scratch_;  // doubles
};

}  // namespace mtfa
