// The config of a weight file: every choice that defines a detector, as mtfa_fast/config.py has it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/calibration.h"
#include "core/weights.h"

namespace mtfa {

struct FeatureConfig {
  int64_t sample_rate = 44'100, window_length = 1'764, hop = 882, fft_length = 2'048, mel_bands = 128;
  double log_floor = 1e-10;
};

struct NetworkConfig {
  std::string variant = "mtfa";
  int64_t channels = 64, hidden = 64, frequency_pooling = 8;
  bool mask_projection = true;
};

// The decision of one class.
struct Decision {
  double threshold = 0.5;
  int64_t filter_frames = 27;
  double minimum_score = 0;

  // Throws std::invalid_argument unless 0 <= threshold, minimum_score <= 1 and filter_frames is odd and >= 1.
  void check(const std::string& of) const;
};

struct ClassConfig {
  std::string name;
  Decision decision;
  std::optional<Calibration> calibration;  // without: an event's score is its highest probability
};

struct Config {
  FeatureConfig features;
  NetworkConfig network;
  std::vector<ClassConfig> classes;

  NetworkShape shape() const;
};

// From JSON text. Throws std::invalid_argument naming an unknown, missing or bad field.
Config parse_config(std::string_view json);

// Name and shape of every tensor of a detector with this config, mtfa_fast/weights/shapes.py.
std::vector<std::pair<std::string, std::vector<int64_t>>> expected_shapes(const Config& config);

}  // namespace mtfa
