#include "core/weights.h"

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

}  // namespace mtfa
