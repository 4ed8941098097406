#include "core/calibration.h"

#include <algorithm>
#include <cmath>

namespace mtfa {

float calibrated(float peak, const Calibration& calibration) {
  constexpr double kNear = 1.0 / (1 << 20);
  const double p = std::clamp(static_cast<double>(peak), kNear, 1 - kNear);
  return static_cast<float>(1 / (1 + std::exp(-(calibration.slope * std::log(p / (1 - p)) + calibration.offset))));
}

}  // namespace mtfa
