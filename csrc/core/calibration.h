// What a detector says of an event: from a run's highest probability to the share of such events that are right.
#pragma once

namespace mtfa {

// Logistic in the logit of the peak, after Platt: sigmoid(slope * logit(peak) + offset). slope >= 0: ranks stay.
struct Calibration {
  double slope, offset;
};

// A peak nearer to 0 or 1 than 2^-20 counts as that near, because float32 has no finite logit for those it rounds
// there.
float calibrated(float peak, const Calibration& calibration);

}  // namespace mtfa
