// A number that tells arrays apart by their content: packed weights are kept until it changes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace mtfa {

// Continues `seed` over `size` bytes, which every bit of the result depends on. Four independent chains keep the
// multiplier busy. Not for hostile input.
inline uint64_t fingerprint(const void* data, size_t size, uint64_t seed) {
  constexpr uint64_t kFactor = 0x9e3779b97f4a7c15;  // odd: multiplying by it loses nothing
  const auto mix = [](uint64_t state, uint64_t word) {
    state = (state ^ word) * kFactor;
    return state ^ (state >> 29);
  };
  const char* bytes = static_cast<const char*>(data);
  uint64_t lanes[4] = {seed, seed + 1, seed + 2, seed + 3};
  size_t i = 0;
  for (; i + 32 <= size; i += 32) {
    uint64_t words[4];
    std::memcpy(words, bytes + i, sizeof words);
    for (int lane = 0; lane < 4; ++lane) lanes[lane] = mix(lanes[lane], words[lane]);
  }
  uint64_t rest[4] = {};
  std::memcpy(rest, bytes + i, size - i);
  uint64_t result = mix(seed, size);
  for (int lane = 0; lane < 4; ++lane) result = mix(mix(result, lanes[lane]), rest[lane]);
  return result;
}

}  // namespace mtfa
