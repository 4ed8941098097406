// What the handles of mtfa_fast.h stand for, and what is done with it; errors are exceptions, which mtfa_fast.cpp turns
// into codes and texts.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "c_api/mtfa_fast.h"
#include "c_api/weight_file.h"
#include "core/engine.h"
#include "core/live.h"
#include "core/live_runs.h"

namespace mtfa {

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

struct Live {
  Live(std::shared_ptr<const Detector> of, const LiveShape& shape);
  std::shared_ptr<const Detector> detector;
  std::mutex mutex;
  LiveStream stream;
  LiveRuns runs;
  std::vector<float> probabilities;  // of the last push
  std::vector<mtfa_live_event> events;
  bool open = true;
};

// std::invalid_argument, naming the argument, what was given and what is allowed.
void require(bool condition, const char* name, const std::string& given, const std::string& allowed);
void require_pointer(const void* pointer, const char* name);
void check_rate(const Detector& detector, int64_t rate);
// `before`: samples of the same recording that came earlier.
void check_samples(const float* samples, uint64_t count, uint64_t before);

std::shared_ptr<Detector> make_detector(const WeightFile& file, const mtfa_options* options);
const char* precision_name(Precision precision);

void push(Recording& recording, const float* samples, uint64_t count);
std::shared_ptr<Result> finish(Recording& recording);
// Events by the result's decisions.
void decide(Result& result);
// One step of a live stream: `run` moves it on, its runs are told the probabilities that became final.
void advance(Live& live, const std::function<void()>& run, bool last);

}  // namespace mtfa
