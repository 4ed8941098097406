#include "core/fold.h"

#include <cmath>
#include <string>

namespace mtfa {
namespace {

constexpr double kNormEpsilon = 1e-5;  // torch.nn.BatchNorm2d's default, which the network uses

bool starts_with(const std::string& text, const char* start) { return text.rfind(start, 0) == 0; }

// conv.weight -> norm, conv1.weight -> norm1; empty for what is no convolution's weight.
std::string norm_of(const std::string& name) {
  const size_t end = name.rfind(".weight");
  if (end == std::string::npos || end + 7 != name.size()) return "";
  const size_t dot = name.rfind('.', end - 1), leaf = dot == std::string::npos ? 0 : dot + 1;
  if (name.compare(leaf, 4, "conv") != 0) return "";
  return name.substr(0, leaf) + "norm" + name.substr(leaf + 4, end - leaf - 4);
}

void fold_norm(const Tensors& tensors, const std::string& name, const std::string& norm, Folded& out) {
  const Tensor& weight = tensors.all().at(name);
  const int64_t channels = weight.shape.empty() ? 0 : weight.shape[0];
  const float* gamma = tensors.get(norm + ".weight", {channels});
  const float* beta = tensors.get(norm + ".bias", {channels});
  const float* mean = tensors.get(norm + ".running_mean", {channels});
  const float* variance = tensors.get(norm + ".running_var", {channels});
  const int64_t size = weight.size(), inputs = channels ? size / channels : 0;
  std::vector<float> scaled(static_cast<size_t>(size)), shift(static_cast<size_t>(channels));
  for (int64_t c = 0; c < channels; ++c) {
    const double scale = gamma[c] / std::sqrt(variance[c] + kNormEpsilon);
    for (int64_t i = c * inputs; i < (c + 1) * inputs; ++i) scaled[i] = static_cast<float>(weight.data[i] * scale);
    shift[c] = static_cast<float>(beta[c] - mean[c] * scale);
  }
  out.made.push_back(std::move(scaled));
  out.tensors.add(name, {out.made.back().data(), weight.shape});
  out.made.push_back(std::move(shift));
  out.tensors.add(name.substr(0, name.size() - 6) + "bias", {out.made.back().data(), {channels}});
}

void join_biases(const Tensors& tensors, const std::string& suffix, Folded& out) {
  const Tensor& input = tensors.all().at("gru.bias_ih" + suffix);
  const float* hidden_bias = tensors.get("gru.bias_hh" + suffix, input.shape);
  const int64_t size = input.size(), hidden = size / 3;
  std::vector<float> joined(input.data, input.data + size);
  for (int64_t i = 0; i < 2 * hidden; ++i) {
    joined[i] = static_cast<float>(static_cast<double>(input.data[i]) + hidden_bias[i]);
  }
  out.made.push_back(std::move(joined));
  out.tensors.add("gru.bias_input" + suffix, {out.made.back().data(), {size}});
  out.tensors.add("gru.bias_new" + suffix, {hidden_bias + 2 * hidden, {size - 2 * hidden}});
}

}  // namespace

Folded fold(const Tensors& tensors) {
  Folded out;
  for (const auto& [name, tensor] : tensors.all()) {
    const std::string norm = norm_of(name);
    if (!norm.empty() && tensors.all().count(norm + ".weight")) {
      fold_norm(tensors, name, norm, out);
    } else if (starts_with(name, "gru.bias_ih")) {
      join_biases(tensors, name.substr(11), out);
    } else if (name.find(".norm") == std::string::npos && !starts_with(name, "gru.bias_hh")) {
      out.tensors.add(name, tensor);
    }
  }
  return out;
}

}  // namespace mtfa
