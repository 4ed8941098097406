// Winograd's G, which takes a filter to its products and, transposed, their gradients to the filter's.
#pragma once

#include <array>
#include <cstddef>

#include "core/kernels/winograd_points.h"

namespace mtfa {

// At each point p the filter's polynomial (1, p, p^2), divided by the products of p's distances from the other points,
// and its leading coefficient at infinity.
template <size_t n>
std::array<std::array<double, 3>, n + 1> filter_rows(const double (&points)[n]) {
  std::array<std::array<double, 3>, n + 1> rows{};
  for (size_t i = 0; i < n; ++i) {
    const double p = points[i];
    double product = 1;
    for (const double other : points) product *= p == other ? 1 : p - other;
    rows[i] = {1 / product, p / product, p * p / product};
  }
  rows[n] = {0, 0, 1};
  return rows;
}

}  // namespace mtfa
