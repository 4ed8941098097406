#include "c_api/mtfa_fast.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "c_api/handles.h"
#include "core/detect_runs.h"
#include "core/engine.h"
#include "core/fold.h"
#include "core/live.h"
#include "core/live_runs.h"

namespace mtfa {
namespace {

constexpr uint64_t kMostSamples = uint64_t{1} << 40;  // of one recording

struct Detector {
  Config config;
  std::vector<mtfa_class> classes;
  std::shared_ptr<const LogMel> log_mel;
  std::shared_ptr<const Engine> engine;
  std::unique_ptr<ThreadPool> pool;  // its own: when nobody holds the detector any more, no thread is left
  Isa isa = Isa::portable;
  Precision precision = Precision::fp32;
};

struct Result {
  std::shared_ptr<const Detector> detector;
  std::vector<float> probabilities;
  size_t frames = 0;
  double duration = 0;  // seconds
  std::mutex mutex;     // of what follows
  std::vector<Decision> decisions;
  bool decided = false;
  std::vector<mtfa_event> events;
};

struct Recording {
  explicit Recording(std::shared_ptr<const Detector> of) : detector(std::move(of)), stream(detector->engine) {}
  std::shared_ptr<const Detector> detector;
  std::mutex mutex;
  Stream stream;
  uint64_t samples = 0;
  bool open = true;
};

std::vector<LiveDecision> live_decisions(const Config& config) {
  std::vector<LiveDecision> decisions;
  for (const ClassConfig& one : config.classes) {
    decisions.push_back({static_cast<float>(one.decision.threshold), one.decision.filter_frames,
                         static_cast<float>(one.decision.minimum_score)});
  }
  return decisions;
}

struct Live {
  Live(std::shared_ptr<const Detector> of, const LiveShape& shape)
      : detector(std::move(of)), stream(detector->engine, shape), runs(live_decisions(detector->config)) {}
  std::shared_ptr<const Detector> detector;
  std::mutex mutex;
  LiveStream stream;
  LiveRuns runs;
  std::vector<float> probabilities;  // of the last push
  std::vector<mtfa_live_event> events;
  bool open = true;
};

// Never destroyed: a thread may still close its handles while the process ends.
Handles<Detector>& detectors() {
  static auto* const table = new Handles<Detector>("detector");
  return *table;
}
Handles<Result>& results() {
  static auto* const table = new Handles<Result>("result");
  return *table;
}
Handles<Recording>& recordings() {
  static auto* const table = new Handles<Recording>("recording");
  return *table;
}
Handles<Live>& lives() {
  static auto* const table = new Handles<Live>("live stream");
  return *table;
}

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

void open(const WeightFile& file, const mtfa_options* options, mtfa_detector** out) {
  *out = reinterpret_cast<mtfa_detector*>(detectors().add(make_detector(file, options)));
}

std::shared_ptr<Recording> make_recording(mtfa_detector* handle, int64_t rate) {
  std::shared_ptr<const Detector> detector = detectors().get(handle);
  check_rate(*detector, rate);
  return std::make_shared<Recording>(std::move(detector));
}

void push(Recording& recording, const float* samples, uint64_t count) {
  if (!recording.open) throw Failure(MTFA_ERROR_STATE, "recording: got a finished one, allowed: an open one");
  check_samples(samples, count, recording.samples);
  recording.open = false;  // what throws half way leaves nothing to go on from
  recording.stream.push_samples(samples, static_cast<int64_t>(count), *recording.detector->pool);
  recording.samples += count;
  recording.open = true;
}

mtfa_result* finish(Recording& recording) {
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
  return reinterpret_cast<mtfa_result*>(results().add(std::move(result)));
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

// One step of a live stream: `run` moves it on, `runs` is told the probabilities that became final.
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

void require_open(const Live& live) {
  if (!live.open) throw Failure(MTFA_ERROR_STATE, "live stream: got a finished one, allowed: an open one");
}

}  // namespace
}  // namespace mtfa

using namespace mtfa;

int mtfa_abi(void) { return MTFA_FAST_ABI; }
const char* mtfa_version(void) { return MTFA_FAST_VERSION; }
const char* mtfa_last_error(void) { return error_text(); }

mtfa_status mtfa_open(const char* path, const mtfa_options* options, mtfa_detector** detector) {
  if (detector) *detector = nullptr;
  return guarded([&] {
    require_pointer(path, "path");
    require_pointer(detector, "detector");
    const std::vector<char> bytes = read_weights(path);
    try {
      open(parse_weights(bytes.data(), bytes.size()), options, detector);
    } catch (const WeightError& error) {
      throw WeightError(std::string(path) + ": " + error.what());
    }
  });
}

mtfa_status mtfa_open_memory(const void* bytes, size_t size, const mtfa_options* options, mtfa_detector** detector) {
  if (detector) *detector = nullptr;
  return guarded([&] {
    require_pointer(bytes, "bytes");
    require_pointer(detector, "detector");
    require(size <= static_cast<size_t>(PTRDIFF_MAX), "size", std::to_string(size), "what memory can hold");
    open(parse_weights(bytes, size), options, detector);
  });
}

mtfa_status mtfa_close(mtfa_detector* detector) {
  return guarded([&] { detectors().close(detector); });
}

mtfa_status mtfa_get_info(mtfa_detector* handle, mtfa_info* info) {
  return guarded([&] {
    const auto detector = detectors().get(handle);
    require_pointer(info, "info");
    require(info->struct_size == sizeof(mtfa_info), "info.struct_size", std::to_string(info->struct_size),
            std::to_string(sizeof(mtfa_info)) + ", sizeof(mtfa_info)");
    const FeatureConfig& features = detector->config.features;
    *info = {sizeof(mtfa_info),      features.sample_rate,     features.hop,
             features.mel_bands,     detector->classes.size(), detector->classes.data(),
             detector->pool->size(), name(detector->isa),      kPrecisions[static_cast<int>(detector->precision)]};
  });
}

mtfa_status mtfa_detect(mtfa_detector* detector, const float* samples, size_t count, int64_t sample_rate,
                        mtfa_result** result) {
  if (result) *result = nullptr;
  return guarded([&] {
    require_pointer(result, "result");
    const auto recording = make_recording(detector, sample_rate);
    require(count > 0, "count", "0", "1 to 2^40");
    push(*recording, samples, count);
    *result = finish(*recording);
  });
}

mtfa_status mtfa_recording_open(mtfa_detector* detector, int64_t sample_rate, mtfa_recording** recording) {
  if (recording) *recording = nullptr;
  return guarded([&] {
    require_pointer(recording, "recording");
    *recording = reinterpret_cast<mtfa_recording*>(recordings().add(make_recording(detector, sample_rate)));
  });
}

mtfa_status mtfa_recording_push(mtfa_recording* handle, const float* samples, size_t count) {
  return guarded([&] {
    const auto recording = recordings().get(handle);
    std::lock_guard<std::mutex> lock(recording->mutex);
    push(*recording, samples, count);
  });
}

mtfa_status mtfa_recording_finish(mtfa_recording* handle, mtfa_result** result) {
  if (result) *result = nullptr;
  return guarded([&] {
    require_pointer(result, "result");
    const auto recording = recordings().get(handle);
    std::lock_guard<std::mutex> lock(recording->mutex);
    *result = finish(*recording);
  });
}

mtfa_status mtfa_recording_close(mtfa_recording* recording) {
  return guarded([&] { recordings().close(recording); });
}

mtfa_status mtfa_result_events(mtfa_result* handle, const mtfa_event** events, size_t* count) {
  return guarded([&] {
    const auto result = results().get(handle);
    require_pointer(events, "events");
    require_pointer(count, "count");
    std::lock_guard<std::mutex> lock(result->mutex);
    if (!result->decided) decide(*result);
    *events = result->events.data();
    *count = result->events.size();
  });
}

mtfa_status mtfa_result_probabilities(mtfa_result* handle, const float** probabilities, size_t* frames,
                                      size_t* classes) {
  return guarded([&] {
    const auto result = results().get(handle);
    require_pointer(probabilities, "probabilities");
    require_pointer(frames, "frames");
    require_pointer(classes, "classes");
    *probabilities = result->probabilities.data();
    *frames = result->frames;
    *classes = result->detector->classes.size();
  });
}

mtfa_status mtfa_result_decide(mtfa_result* handle, size_t class_index, double threshold, int64_t filter_frames,
                               double minimum_score) {
  return guarded([&] {
    const auto result = results().get(handle);
    const size_t classes = result->detector->classes.size();
    require(class_index < classes, "class_index", std::to_string(class_index), "0 to " + std::to_string(classes - 1));
    const Decision decision{threshold, filter_frames, minimum_score};
    decision.check(result->detector->classes[class_index].name);
    std::lock_guard<std::mutex> lock(result->mutex);
    result->decisions[class_index] = decision;
    result->decided = false;
  });
}

mtfa_status mtfa_result_close(mtfa_result* result) {
  return guarded([&] { results().close(result); });
}

mtfa_status mtfa_log_mel(mtfa_detector* handle, const float* samples, size_t count, int64_t sample_rate, float* out,
                         size_t capacity) {
  return guarded([&] {
    const auto detector = detectors().get(handle);
    check_rate(*detector, sample_rate);
    require(count > 0, "count", "0", "1 to 2^40");
    require_pointer(out, "out");
    check_samples(samples, count, 0);
    const LogMel& log_mel = *detector->log_mel;
    const uint64_t frames = 1 + count / static_cast<uint64_t>(log_mel.hop());
    const uint64_t room = capacity / static_cast<uint64_t>(log_mel.mel_bands());
    require(frames <= room, "capacity", std::to_string(capacity),
            ">= " + std::to_string(frames) + " * " + std::to_string(log_mel.mel_bands()));
    log_mel.frames(samples, static_cast<int64_t>(count), out, *detector->pool);
  });
}

mtfa_status mtfa_live_open(mtfa_detector* handle, int64_t sample_rate, int64_t chunk, int64_t look_ahead,
                           int64_t* delay, mtfa_live** live) {
  if (live) *live = nullptr;
  return guarded([&] {
    require_pointer(live, "live");
    const auto detector = detectors().get(handle);
    check_rate(*detector, sample_rate);
    // What an int cannot hold stays what is not allowed.
    const auto held = [](int64_t value) { return static_cast<int>(std::clamp<int64_t>(value, -1, INT32_MAX)); };
    auto made = std::make_shared<Live>(detector, LiveShape{held(chunk), held(look_ahead)});
    if (delay) *delay = made->stream.delay();
    *live = reinterpret_cast<mtfa_live*>(lives().add(std::move(made)));
  });
}

mtfa_status mtfa_live_push(mtfa_live* handle, const float* samples, size_t count, const mtfa_live_event** events,
                           size_t* event_count) {
  return guarded([&] {
    const auto live = lives().get(handle);
    require_pointer(events, "events");
    require_pointer(event_count, "event_count");
    std::lock_guard<std::mutex> lock(live->mutex);
    require_open(*live);
    check_samples(samples, count, 0);
    advance(*live, [&] { live->stream.push(samples, static_cast<int64_t>(count), *live->detector->pool); }, false);
    *events = live->events.data();
    *event_count = live->events.size();
  });
}

mtfa_status mtfa_live_finish(mtfa_live* handle, const mtfa_live_event** events, size_t* event_count) {
  return guarded([&] {
    const auto live = lives().get(handle);
    require_pointer(events, "events");
    require_pointer(event_count, "event_count");
    std::lock_guard<std::mutex> lock(live->mutex);
    require_open(*live);
    require(live->stream.samples() > 0, "live stream", "no sample", "at least one");
    advance(*live, [&] { live->stream.finish(*live->detector->pool); }, true);
    *events = live->events.data();
    *event_count = live->events.size();
  });
}

mtfa_status mtfa_live_probabilities(mtfa_live* handle, const float** probabilities, size_t* frames, size_t* classes) {
  return guarded([&] {
    const auto live = lives().get(handle);
    require_pointer(probabilities, "probabilities");
    require_pointer(frames, "frames");
    require_pointer(classes, "classes");
    std::lock_guard<std::mutex> lock(live->mutex);
    *probabilities = live->probabilities.data();
    *classes = live->detector->classes.size();
    *frames = live->probabilities.size() / *classes;
  });
}

mtfa_status mtfa_live_close(mtfa_live* live) {
  return guarded([&] { lives().close(live); });
}
