#include "c_api/mtfa_fast.h"

#include <algorithm>

#include "c_api/handles.h"
#include "c_api/objects.h"

namespace mtfa {
namespace {

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

void open(const WeightFile& file, const mtfa_options* options, mtfa_detector** out) {
  *out = reinterpret_cast<mtfa_detector*>(detectors().add(make_detector(file, options)));
}

std::shared_ptr<Recording> make_recording(mtfa_detector* handle, int64_t rate) {
  std::shared_ptr<const Detector> detector = detectors().get(handle);
  check_rate(*detector, rate);
  return std::make_shared<Recording>(std::move(detector));
}

mtfa_result* give(std::shared_ptr<Result> result) {
  return reinterpret_cast<mtfa_result*>(results().add(std::move(result)));
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
             detector->pool->size(), name(detector->isa),      precision_name(detector->precision)};
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
    *result = give(finish(*recording));
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
    *result = give(finish(*recording));
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
