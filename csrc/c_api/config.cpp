#include "c_api/config.h"

#include <cmath>
#include <cstdio>
#include <set>
#include <stdexcept>

#include "c_api/json.h"
#include "core/log_mel.h"

namespace mtfa {
namespace {

constexpr int kHourglassDepth = 3;         // poolings of the mask branch
constexpr int64_t kLargestSize = 1 << 20;  // of one side of any tensor; products of two fit 64 bits

[[noreturn]] void refuse(const std::string& name, const std::string& given, const std::string& allowed) {
  throw std::invalid_argument(name + ": got " + given + ", allowed: " + allowed);
}

std::string shown(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.17g", value);
  return text;
}

const char* kind_name(Json::Kind kind) {
  static constexpr const char* kNames[] = {"null", "true or false", "a number", "a string", "a list", "an object"};
  return kNames[static_cast<int>(kind)];
}

// The fields of one object: each is asked for by its name, and what nobody asked for is unknown.
class Fields {
 public:
  Fields(const Json& json, const std::string& where) : json_(json), where_(where) {
    if (json.kind != Json::Kind::object) refuse(where, kind_name(json.kind), "an object");
  }
  const Json* find(const char* name) {
    known_.insert(name);
    const auto found = json_.object.find(name);
    return found == json_.object.end() ? nullptr : &found->second;
  }
  const Json& need(const char* name) {
    const Json* found = find(name);
    if (!found) refuse(where_, std::string("no field ") + name, "the field " + std::string(name));
    return *found;
  }
  void integer(const char* name, int64_t low, int64_t high, int64_t& value) {
    const Json* found = find(name);
    if (!found) return;
    if (!found->integer || found->whole < low || found->whole > high) {
      const bool number = found->kind == Json::Kind::number;
      refuse(where_ + "." + name, number ? shown(found->number) : kind_name(found->kind),
             "an integer, " + std::to_string(low) + " to " + std::to_string(high));
    }
    value = found->whole;
  }
  void real(const char* name, double& value) {
    const Json* found = find(name);
    if (!found) return;
    if (found->kind != Json::Kind::number) refuse(where_ + "." + name, kind_name(found->kind), "a number");
    value = found->number;
  }
  void text(const char* name, std::string& value) {
    const Json* found = find(name);
    if (!found) return;
    if (found->kind != Json::Kind::string) refuse(where_ + "." + name, kind_name(found->kind), "a string");
    value = found->string;
  }
  void boolean(const char* name, bool& value) {
    const Json* found = find(name);
    if (!found) return;
    if (found->kind != Json::Kind::boolean) refuse(where_ + "." + name, kind_name(found->kind), "true, false");
    value = found->boolean;
  }
  void end() const {
    for (const auto& [name, value] : json_.object) {
      if (!known_.count(name)) refuse(where_, "the field " + name, "fields of format version 1");
    }
  }

 private:
  const Json& json_;
  const std::string where_;
  std::set<std::string> known_;
};

FeatureConfig features_of(const Json& json) {
  FeatureConfig features;
  Fields fields(json, "features");
  fields.integer("sample_rate", 1, int64_t{1} << 31, features.sample_rate);
  fields.integer("window_length", 1, LogMel::kMaxFftLength, features.window_length);
  fields.integer("hop", 1, LogMel::kMaxHop, features.hop);
  fields.integer("fft_length", 2, LogMel::kMaxFftLength, features.fft_length);
  fields.integer("mel_bands", 8, LogMel::kMaxMelBands, features.mel_bands);
  fields.real("log_floor", features.log_floor);
  fields.end();
  const int64_t fft = features.fft_length;
  if ((fft & (fft - 1)) != 0 || fft < features.window_length) {
    refuse("fft_length", std::to_string(fft),
           "a power of two >= window_length (" + std::to_string(features.window_length) + ")");
  }
  return features;
}

NetworkConfig network_of(const Json& json) {
  NetworkConfig network;
  double dropout = 0.3;
  Fields fields(json, "network");
  fields.text("variant", network.variant);
  fields.integer("channels", 1, kLargestSize, network.channels);
  fields.integer("hidden", 1, kLargestSize, network.hidden);
  fields.integer("frequency_pooling", 1, kLargestSize, network.frequency_pooling);
  fields.boolean("mask_projection", network.mask_projection);
  fields.real("dropout", dropout);  // of training
  fields.end();
  if (!(dropout >= 0 && dropout < 1)) refuse("dropout", shown(dropout), "0 <= p < 1");
  return network;
}

// What may be printed on one line, without spaces at its ends.
void check_name(const std::string& name) {
  bool good = !name.empty() && name.front() != ' ' && name.back() != ' ';
  for (unsigned char c : name) good = good && c >= 0x20 && c != 0x7f;
  if (!good) refuse("class name", "'" + name + "'", "printable text without spaces at its ends");
}

Calibration calibration_of(const Json& json) {
  Calibration calibration{};
  Fields fields(json, "calibration");
  fields.need("slope");
  fields.need("offset");
  fields.real("slope", calibration.slope);
  fields.real("offset", calibration.offset);
  fields.end();
  if (!(calibration.slope >= 0 && std::isfinite(calibration.slope))) {
    refuse("calibration slope", shown(calibration.slope), "a number >= 0");
  }
  if (!std::isfinite(calibration.offset)) refuse("calibration offset", shown(calibration.offset), "a number");
  return calibration;
}

ClassConfig class_of(const Json& json) {
  ClassConfig one;
  Fields fields(json, "classes");
  fields.need("name");
  fields.text("name", one.name);
  check_name(one.name);
  fields.real("threshold", one.decision.threshold);
  fields.integer("filter_frames", 1, INT64_MAX, one.decision.filter_frames);
  fields.real("minimum_score", one.decision.minimum_score);
  const Json* calibration = fields.find("calibration");
  if (calibration && calibration->kind != Json::Kind::null) one.calibration = calibration_of(*calibration);
  fields.end();
  one.decision.check(one.name);
  return one;
}

using Shapes = std::vector<std::pair<std::string, std::vector<int64_t>>>;

void add_norm(Shapes& shapes, const std::string& name, int64_t channels) {
  for (const char* part : {"weight", "bias", "running_mean", "running_var"}) {
    shapes.push_back({name + "." + part, {channels}});
  }
}

void add_block(Shapes& shapes, const std::string& name, int64_t channels) {
  for (const char* i : {"1", "2"}) {
    shapes.push_back({name + ".conv" + i + ".weight", {channels, channels, 3, 3}});
    add_norm(shapes, name + ".norm" + i, channels);
  }
}

}  // namespace

void Decision::check(const std::string& of) const {
  if (!(threshold >= 0 && threshold <= 1)) refuse("threshold of " + of, shown(threshold), "0 <= threshold <= 1");
  if (!(minimum_score >= 0 && minimum_score <= 1)) {
    refuse("minimum_score of " + of, shown(minimum_score), "0 <= minimum_score <= 1");
  }
  if (filter_frames < 1 || filter_frames % 2 == 0) {
    refuse("filter_frames of " + of, std::to_string(filter_frames), "an odd number >= 1");
  }
}

NetworkShape Config::shape() const {
  return {parse_variant(network.variant),
          static_cast<int>(network.channels),
          static_cast<int>(network.hidden),
          static_cast<int>(classes.size()),
          static_cast<int>(features.mel_bands),
          static_cast<int>(network.frequency_pooling),
          network.mask_projection};
}

Config parse_config(std::string_view text) {
  const Json json = parse_json(text);
  Config config;
  Fields fields(json, "config");
  config.features = features_of(fields.need("features"));
  config.network = network_of(fields.need("network"));
  const Json& classes = fields.need("classes");
  fields.end();
  if (classes.kind != Json::Kind::array || classes.array.empty() || classes.array.size() > size_t{kLargestSize}) {
    refuse(
        "classes",
        classes.kind == Json::Kind::array ? std::to_string(classes.array.size()) + " classes" : kind_name(classes.kind),
        "a list of classes, at least one");
  }
  std::set<std::string> names;
  for (const Json& one : classes.array) {
    config.classes.push_back(class_of(one));
    if (!names.insert(config.classes.back().name).second) {
      refuse("classes", config.classes.back().name + " twice", "different names");
    }
  }
  config.shape().check();
  return config;
}

Shapes expected_shapes(const Config& config) {
  const NetworkConfig& net = config.network;
  const FeatureConfig& features = config.features;
  const int64_t channels = net.channels, hidden = net.hidden, bands = features.mel_bands;
  Shapes shapes = {{"features.window", {features.window_length}},
                   {"features.mel", {bands, features.fft_length / 2 + 1}},
                   {"mean", {bands}},
                   {"std", {bands}},
                   {"stem.conv.weight", {channels, 1, 3, 3}}};
  add_norm(shapes, "stem.norm", channels);
  add_block(shapes, "attention.features.0", channels);
  add_block(shapes, "attention.features.1", channels);
  if (net.variant == "resatt") {
    add_block(shapes, "attention.mask.0", channels);
    add_block(shapes, "attention.mask.1", channels);
  }
  if (net.variant == "mtfa") {
    std::string at = "attention.mask.";
    for (int depth = 0; depth < kHourglassDepth; ++depth, at += "inner.") {
      for (const char* part : {"skip", "low_in", "low_out"}) add_block(shapes, at + part, channels);
    }
    add_block(shapes, at.substr(0, at.size() - 1), channels);
  }
  if (net.mask_projection && net.variant != "res") {
    shapes.push_back({"attention.projection.weight", {channels, channels, 1, 1}});
    shapes.push_back({"attention.projection.bias", {channels}});
  }
  const int64_t inputs[] = {bands / net.frequency_pooling * channels, 2 * hidden};
  for (int layer = 0; layer < 2; ++layer) {
    for (const char* direction : {"", "_reverse"}) {
      const std::string suffix = "_l" + std::to_string(layer) + direction;
      shapes.push_back({"gru.weight_ih" + suffix, {3 * hidden, inputs[layer]}});
      shapes.push_back({"gru.weight_hh" + suffix, {3 * hidden, hidden}});
      shapes.push_back({"gru.bias_ih" + suffix, {3 * hidden}});
      shapes.push_back({"gru.bias_hh" + suffix, {3 * hidden}});
    }
  }
  const int64_t outputs = static_cast<int64_t>(config.classes.size());
  shapes.push_back({"head.hidden.weight", {hidden, 2 * hidden}});
  shapes.push_back({"head.hidden.bias", {hidden}});
  shapes.push_back({"head.output.weight", {outputs, hidden}});
  shapes.push_back({"head.output.bias", {outputs}});
  return shapes;
}

}  // namespace mtfa
