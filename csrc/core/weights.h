// The network's weights as the engine receives them: named float32 tensors with batch norm folded in,
// every size checked before use.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace mtfa {

enum class Variant { mtfa, resatt, res };
enum class Precision { fp32, bf16, int8 };

// Throws std::invalid_argument for any other name.
Variant parse_variant(const std::string& name);

struct NetworkShape {
  Variant variant;
  int channels;
  int hidden;
  int classes;
  int mel_bands;
  int pooling;
  bool mask_projection;

  // Throws std::invalid_argument unless sizes are >= 1 and mel_bands is a multiple of 8 and of pooling.
  void check() const;
};

struct Tensor {
  const float* data;
  std::vector<int64_t> shape;

  int64_t size() const;  // values
};

class Tensors {
 public:
  void add(const std::string& name, Tensor tensor) { tensors_[name] = std::move(tensor); }
  // Throws std::invalid_argument naming the tensor when it is missing or has another shape.
  const float* get(const std::string& name, const std::vector<int64_t>& shape) const;
  // The same, and throws unless every value is finite and above zero.
  const float* get_steps(const std::string& name, const std::vector<int64_t>& shape) const;
  const std::map<std::string, Tensor>& all() const { return tensors_; }

 private:
  std::map<std::string, Tensor> tensors_;
};

}  // namespace mtfa
