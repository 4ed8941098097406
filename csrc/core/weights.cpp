#include "core/weights.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <stdexcept>

namespace mtfa {

namespace {

std::string text(const std::vector<int64_t>& shape) {
  std::string out = "(";
  for (size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + ")";
}

void require_positive(const char* what, int value) {
  if (value < 1) throw std::invalid_argument(std::string(what) + ": got " + std::to_string(value) + ", allowed: >= 1");
}

}  // namespace

Variant parse_variant(const std::string& name) {
  if (name == "mtfa") return Variant::mtfa;
  if (name == "resatt") return Variant::resatt;
  if (name == "res") return Variant::res;
  throw std::invalid_argument("variant: got " + name + ", allowed: mtfa, resatt, res");
}

void NetworkShape::check() const {
  require_positive("channels", channels);
  require_positive("hidden", hidden);
  require_positive("classes", classes);
  require_positive("pooling", pooling);
  if (mel_bands < 1 || mel_bands % 8 || mel_bands % pooling) {
    throw std::invalid_argument("mel_bands: got " + std::to_string(mel_bands) +
                                ", allowed: a multiple of 8 and of pooling");
  }
}

int64_t Tensor::size() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<int64_t>());
}

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
