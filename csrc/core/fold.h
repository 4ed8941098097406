// The tensors of a weight file as the engines want them: batch norm folded into convolutions, GRU biases joined.
#pragma once

#include <vector>

#include "core/weights.h"

namespace mtfa {

// Tensors as Engine takes them. What folding leaves alone points into the input, which must outlive this.
struct Folded {
  Tensors tensors;
  std::vector<std::vector<float>> made;
};

// Every convolution followed by a norm becomes one `<conv>.weight` and `<conv>.bias`: w * gamma / sqrt(var + eps) and
// beta - mean * gamma / sqrt(var + eps), computed in double precision. A GRU direction's biases become
// `gru.bias_input_*` = b_ih + (b_hr, b_hz, 0) and `gru.bias_new_*` = b_hn: only the new gate's hidden bias stands
// inside the product with the reset gate. Throws std::invalid_argument for a tensor that is missing or has another
// shape than its neighbours ask for.
Folded fold(const Tensors& tensors);

}  // namespace mtfa
