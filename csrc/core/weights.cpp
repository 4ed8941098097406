#include "core/weights.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace mtfa {

namespace {

std::string text(const std::vector<int64_t>& shape) {
  std::string out = "(";
  for (size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + ")";
}

}  // namespace

const float* Tensors::get(const std::string& name, const std::vector<int64_t>& shape) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) throw std::invalid_argument("tensor " + name + ": missing");
  if (found->second.shape != shape) {
    throw std::invalid_argument("tensor " + name + ": got shape " + text(found->second.shape) +
                                ", allowed: " + text(shape));
  }
  return found->second.data;
}

const float* Tensors::get_steps(const std::string& name, const std::vector<int64_t>& shape) const {
  const float* steps = get(name, shape);
  int64_t size = 1;
  for (int64_t n : shape) size *= n;
  if (!std::all_of(steps, steps + size, [](float x) { return std::isfinite(x) && x > 0; }))
    throw std::invalid_argument("tensor " + name + ": allowed: finite values > 0");
  return steps;
}

}  // namespace mtfa
