// bfloat16 on the CPU, rounded to nearest even as the hardware does.
#pragma once

#include <cstdint>
#include <cstring>

struct __nv_bfloat16 {
  std::uint16_t bits = 0;
  __nv_bfloat16() = default;
  explicit __nv_bfloat16(float value) {
    std::uint32_t u;
    std::memcpy(&u, &value, sizeof u);
    bits = static_cast<std::uint16_t>(value != value ? 0x7FC0 : (u + 0x7FFF + ((u >> 16) & 1)) >> 16);
  }
  operator float() const {
    const std::uint32_t u = static_cast<std::uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &u, sizeof value);
    return value;
  }
};
