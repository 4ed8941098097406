#include "core/log_mel.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "core/memory.h"

namespace mtfa {
namespace {

void require(bool condition, const char* name, const std::string& given, const std::string& allowed) {
  if (!condition) throw std::invalid_argument(std::string(name) + ": got " + given + ", allowed: " + allowed);
}

void require(bool condition, const char* name, int64_t given, const std::string& allowed) {
  require(condition, name, std::to_string(given), allowed);
}

void add_root(std::vector<double>& table, int64_t k, int64_t n) {
  const double angle = -2.0 * 3.14159265358979323846 * static_cast<double>(k) / static_cast<double>(n);
  table.push_back(std::cos(angle));
  table.push_back(std::sin(angle));
}

// For each radix-4 pass, of length m = M, M / 4, M / 16, ... > 4: w^j, w^2j, w^3j of the m-th root w, for j < m / 4.
std::vector<double> fft_twiddles(int64_t length) {
  std::vector<double> table;
  for (int64_t m = length; m > 4; m /= 4) {
    for (int64_t j = 0; j < m / 4; ++j) {
      for (int64_t power = 1; power <= 3; ++power) add_root(table, power * j, m);
    }
  }
  return table;
}

// A radix-4 pass leaves the outputs 4 k + r in its r-th quarter; a last pass of length 2 or 4 leaves them in order.
int32_t fft_position(int64_t k, int64_t m) {
  return static_cast<int32_t>(m <= 4 ? k : (k % 4) * (m / 4) + fft_position(k / 4, m / 4));
}

}  // namespace

LogMel::LogMel(const float* window, int64_t window_length, const float* mel, int64_t mel_bands, int64_t hop,
               int64_t fft_length, double floor, Isa isa)
    : hop_(hop), fft_length_(static_cast<int>(fft_length)), floor_(floor) {
  require(fft_length >= 2 && fft_length <= kMaxFftLength && (fft_length & (fft_length - 1)) == 0, "fft_length",
          fft_length, "a power of two from 2 to " + std::to_string(kMaxFftLength));
  require(window_length >= 1 && window_length <= fft_length, "window length", window_length,
          "1 <= window length <= fft_length");
  require(mel_bands >= 1 && mel_bands <= kMaxMelBands, "mel bands", mel_bands,
          "1 <= mel bands <= " + std::to_string(kMaxMelBands));
  require(hop >= 1 && hop <= kMaxHop, "hop", hop, "1 <= hop <= " + std::to_string(kMaxHop));
  require(std::isnormal(floor) && floor > 0, "log_floor", std::to_string(floor), "a finite, normal number > 0");
  require(available(isa), "instruction set", name(isa), "one that this machine has");

  window_.assign(window, window + window_length);
  const int64_t half = fft_length / 2, bins = half + 1;
  fft_twiddles_ = mtfa::fft_twiddles(half);
  for (int64_t k = 0; k <= half / 2; ++k) add_root(split_twiddles_, k, fft_length);
  for (int64_t k = 0; k < half; ++k) fft_position_.push_back(mtfa::fft_position(k, half));
  for (int64_t band = 0; band < mel_bands; ++band) {
    const float* const row = mel + band * bins;
    int64_t first = 0, last = bins;
    while (first < last && row[first] == 0.0f) ++first;
    while (last > first && row[last - 1] == 0.0f) --last;
    mel_bands_.push_back(
        {static_cast<int32_t>(first), static_cast<int32_t>(last - first), static_cast<int64_t>(mel_weights_.size())});
    mel_weights_.insert(mel_weights_.end(), row + first, row + last);
  }
  group_ = MTFA_SELECT(isa, log_mel_group);
  lanes_ = MTFA_SELECT(isa, log_mel_lanes)();
  scratch_ = MTFA_SELECT(isa, log_mel_scratch)(tables());
}

LogMelTables LogMel::tables() const {
  return {fft_length_,
          window_length(),
          mel_bands(),
          floor_,
          window_.data(),
          fft_twiddles_.data(),
          split_twiddles_.data(),
          fft_position_.data(),
          mel_bands_.data(),
          mel_weights_.data()};
}

void LogMel::frames(const float* samples, int64_t available, int64_t sample_offset, int64_t first, int64_t count,
                    float* out) const {
  require(available >= 0, "available samples", available, ">= 0");
  require(sample_offset >= 0, "sample offset", sample_offset, ">= 0");
  require(first >= 0 && first < int64_t{1} << 32, "first frame", first, "0 <= first < 2^32");
  require(count >= 0 && count < int64_t{1} << 32, "frame count", count, "0 <= count < 2^32");
  const LogMelTables tables = this->tables();
  const int64_t length = window_length(), half = fft_length_ / 2, before = (fft_length_ - length) / 2;

  // Kept between calls, so that a stream of short blocks does not return and fetch the pages each time.
  thread_local AlignedArray<double> scratch;
  thread_local std::vector<float> edges;
  if (scratch.size() < static_cast<size_t>(scratch_)) scratch = AlignedArray<double>(static_cast<size_t>(scratch_));
  edges.resize(static_cast<size_t>(lanes_ * length));

  for (int64_t done = 0; done < count; done += lanes_) {
    const int lanes = static_cast<int>(std::min<int64_t>(lanes_, count - done));
    const float* rows[kMaxLogMelLanes];
    for (int lane = 0; lane < lanes; ++lane) {
      const int64_t begin = (first + done + lane) * hop_ - half + before - sample_offset;
      if (begin >= 0 && begin <= available - length) {
        rows[lane] = samples + begin;
        continue;
      }
      float* const row = edges.data() + lane * length;
      const int64_t from = std::clamp<int64_t>(-begin, 0, length);
      const int64_t to = std::clamp<int64_t>(available - begin, from, length);
      std::fill(row, row + from, 0.0f);
      if (from < to) std::copy(samples + begin + from, samples + begin + to, row + from);
      std::fill(row + to, row + length, 0.0f);
      rows[lane] = row;
    }
    std::fill(rows + lanes, rows + lanes_, rows[0]);  // lanes without a frame: computed, not stored
    group_(tables, rows, lanes, scratch.data(), out + done * mel_bands());
  }
}

void LogMel::frames(const float* samples, int64_t n, float* out, ThreadPool& pool) const {
  const int64_t count = 1 + n / hop_;
  // Chunks of some tens of microseconds: several for each thread, so that a late worker does not hold up the others.
  const int64_t groups = (count + lanes_ - 1) / lanes_;
  const int tasks = static_cast<int>(std::min<int64_t>(groups, 8 * pool.size()));
  pool.run(tasks, [&](int task) {
    const int64_t from = groups * task / tasks * lanes_;
    const int64_t to = std::min(groups * (task + 1) / tasks * lanes_, count);
    frames(samples, n, 0, from, to - from, out + from * mel_bands());
  });
}

}  // namespace mtfa
