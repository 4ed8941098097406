#include "c_api/objects.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "c_api/handles.h"
#include "core/detect_runs.h"
#include "core/fold.h"

namespace mtfa {
namespace {

constexpr uint64_t kMostSamples = uint64_t{1} << 40;  // of one recording

std::vector<LiveDecision> live_decisions(const Config& config) {
  std::vector<LiveDecision> decisions;
  for (const ClassConfig& one : config.classes) {
    decisions.push_back({static_cast<float>(one.decision.threshold), one.decision.filter_frames,
                         static_cast<float>(one.decision.minimum_score)});
  }
  return decisions;
}

std::string or_empty(const char* text) { return text ? text : ""; }

constexpr const char* kPrecisions[] = {"fp32", "bf16", "int8"};  // in the order of Precision

// "auto" is never int8, which answers a little differently.
Precision precision_of(const std::string& text, bool has_bf16, bool has_steps, const std::string& isa) {
  if (text.empty() || text == "auto") return has_bf16 ? Precision::bf16 : Precision::fp32;
  const bool allowed[] = {true, has_bf16, has_steps};
  std::string list = "auto";
  for (int i = 0; i < 3; ++i) {
    if (!allowed[i]) continue;
    if (text == kPrecisions[i]) return static_cast<Precision>(i);
    list += std::string(", ") + kPrecisions[i];
  }
  list += " with " + isa + (has_steps ? "" : " and weights without the steps of mtfa-fast quantize");
  throw std::invalid_argument("precision: got '" + text + "', allowed: " + list);
}

// A run can bridge frames that are all NaN; a score stays a number.
float peak_of(const Run<float>& run) { return std::isnan(run.peak) ? 0.0f : run.peak; }

mtfa_event event_of(const Detector& detector, const Run<float>& run, double duration) {
  const FeatureConfig& features = detector.config.features;
  const auto seconds = [&](int64_t frame) {
    return std::min(static_cast<double>(frame * features.hop) / static_cast<double>(features.sample_rate), duration);
  };
  const auto& calibration = detector.config.classes[static_cast<size_t>(run.event_class)].calibration;
  return {detector.classes[static_cast<size_t>(run.event_class)].name, run.event_class, seconds(run.first),
          seconds(run.last), calibration ? calibrated(peak_of(run), *calibration) : peak_of(run)};
}

}  // namespace

Live::Live(std::shared_ptr<const Detector> of, const LiveShape& shape)
    : detector(std::move(of)), stream(detector->engine, shape), runs(live_decisions(detector->config)) {}

void require(bool condition, const char* name, const std::string& given, const std::string& allowed) {
  if (!condition) throw std::invalid_argument(std::string(name) + ": got " + given + ", allowed: " + allowed);
}

void require_pointer(const void* pointer, const char* name) { require(pointer, name, "NULL", "a pointer"); }

void check_rate(const Detector& detector, int64_t rate) {
  const int64_t own = detector.config.features.sample_rate;
  require(rate == own, "sample_rate", std::to_string(rate), std::to_string(own) + ", the rate of the weights");
}

void check_samples(const float* samples, uint64_t count, uint64_t before) {
  require(count <= kMostSamples - before, "count", std::to_string(count), "a recording of at most 2^40 samples");
  if (count) require_pointer(samples, "samples");
  for (uint64_t i = 0; i < count; ++i) {
    if (!std::isfinite(samples[i])) {
      require(false, "samples", "NaN or infinity at " + std::to_string(before + i), "finite numbers");
    }
  }
}

const char* precision_name(Precision precision) { return kPrecisions[static_cast<int>(precision)]; }

std::shared_ptr<Detector> make_detector(const WeightFile& file, const mtfa_options* options) {
  mtfa_options chosen = {sizeof(mtfa_options), 0, nullptr, nullptr};
  if (options) {
    require(options->struct_size == sizeof(mtfa_options), "options.struct_size", std::to_string(options->struct_size),
            std::to_string(sizeof(mtfa_options)) + ", sizeof(mtfa_options)");
    chosen = *options;
  }
  require(chosen.threads >= 0 && chosen.threads <= ThreadPool::kMaxThreads, "threads", std::to_string(chosen.threads),
          "0 to " + std::to_string(ThreadPool::kMaxThreads));
  const std::string isa = or_empty(chosen.isa), precision = or_empty(chosen.precision);
  auto detector = std::make_shared<Detector>();
  detector->isa = isa.empty() ? chosen_isa() : parse_isa(isa);
  detector->precision = precision_of(precision, kernels_of(detector->isa).bf16 != nullptr, !file.steps.all().empty(),
                                     name(detector->isa));

  detector->config = file.config;
  for (const ClassConfig& one : detector->config.classes) {
    detector->classes.push_back(
        {one.name.c_str(), one.decision.threshold, one.decision.filter_frames, one.decision.minimum_score});
  }
  try {
    const FeatureConfig& features = file.config.features;
    detector->log_mel = std::make_shared<const LogMel>(
        file.values.at("features.window").data(), features.window_length, file.values.at("features.mel").data(),
        features.mel_bands, features.hop, features.fft_length, features.log_floor, detector->isa);
    Folded folded = fold(file.tensors);
    for (const auto& [name, tensor] : file.steps.all()) folded.tensors.add(name, tensor);
    detector->engine = std::make_shared<const Engine>(file.config.shape(), folded.tensors, detector->log_mel,
                                                      detector->isa, detector->precision);
  } catch (const std::invalid_argument& error) {
    throw WeightError(error.what());
  }
  detector->pool = std::make_unique<ThreadPool>(chosen.threads ? chosen.threads : default_threads());
  return detector;
}

void push(Recording& recording, const float* samples, uint64_t count) {
  if (!recording.open) throw Failure(MTFA_ERROR_STATE, "recording: got a finished one, allowed: an open one");
  check_samples(samples, count, recording.samples);
  recording.open = false;  // what throws half way leaves nothing to go on from
  recording.stream.push_samples(samples, static_cast<int64_t>(count), *recording.detector->pool);
  recording.samples += count;
  recording.open = true;
}

std::shared_ptr<Result> finish(Recording& recording) {
  if (!recording.open) throw Failure(MTFA_ERROR_STATE, "recording: got a finished one, allowed: an open one");
  require(recording.samples > 0, "recording", "no sample", "at least one");
  recording.open = false;
  const Detector& detector = *recording.detector;
  auto result = std::make_shared<Result>();
  result->detector = recording.detector;
  recording.stream.close(*detector.pool);
  result->frames = static_cast<size_t>(recording.stream.frames());
  result->probabilities.resize(result->frames * detector.classes.size());
  recording.stream.probabilities(result->probabilities.data(), *detector.pool);
  result->duration = static_cast<double>(recording.samples) / static_cast<double>(detector.config.features.sample_rate);
  for (const ClassConfig& one : detector.config.classes) result->decisions.push_back(one.decision);
  return result;
}

// By the decisions, in order of onset, then offset, then class: as events/result.py has it.
void decide(Result& result) {
  const Detector& detector = *result.detector;
  std::vector<float> thresholds;
  std::vector<int64_t> windows;
  for (const Decision& decision : result.decisions) {
    thresholds.push_back(static_cast<float>(decision.threshold));
    windows.push_back(decision.filter_frames);
  }
  result.events.clear();
  for (const Run<float>& run :
       detect_runs(result.probabilities.data(), static_cast<int64_t>(result.frames),
                   static_cast<int64_t>(detector.classes.size()), thresholds.data(), windows.data())) {
    const auto least = static_cast<float>(result.decisions[static_cast<size_t>(run.event_class)].minimum_score);
    if (peak_of(run) >= least) result.events.push_back(event_of(detector, run, result.duration));
  }
  std::stable_sort(result.events.begin(), result.events.end(), [](const mtfa_event& a, const mtfa_event& b) {
    return a.onset != b.onset ? a.onset < b.onset : a.offset < b.offset;
  });
  result.decided = true;
}

void advance(Live& live, const std::function<void()>& run, bool last) {
  live.open = false;
  run();
  live.probabilities = live.stream.take();
  std::vector<Run<float>> ended, begun;
  const auto frames = static_cast<int64_t>(live.probabilities.size() / live.detector->classes.size());
  live.runs.push(live.probabilities.data(), frames, ended, begun);
  if (last) live.runs.finish(ended, begun);
  const double duration =
      static_cast<double>(live.stream.samples()) / static_cast<double>(live.detector->config.features.sample_rate);
  live.events.clear();
  for (const Run<float>& one : begun) live.events.push_back({event_of(*live.detector, one, duration), 0});
  for (const Run<float>& one : ended) live.events.push_back({event_of(*live.detector, one, duration), 1});
  live.open = !last;
}

}  // namespace mtfa
