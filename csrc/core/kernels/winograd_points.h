// Winograd's 3x3 convolution in blocks of outputs, as kernels (winograd.h) and packed weights (pack.cpp) agree on it.
// It evaluates polynomials at some points and at infinity: more points a block, fewer products an output, more
// rounding.
#pragma once

namespace mtfa {

// Points of blocks of two and of four outputs, in the order of their products; infinity is the last. 0, +-5/8 and +-3/2
// err within 1 % of the least, and what the transforms multiply by is exact in float (docs/performance.md).
constexpr float kPointA = 0.625f, kPointB = 1.5f;
constexpr double kPoints2[] = {0, 1, -1}, kPoints4[] = {0, kPointA, -kPointA, kPointB, -kPointB};

}  // namespace mtfa
