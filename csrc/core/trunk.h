// The convolutional part of the network as a pipeline: normalised log-mel rows in, rows of the GRU's first
// input projection out.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/isa.h"
#include "core/kernels/kernels.h"
#include "core/stages.h"
#include "core/weights.h"

namespace mtfa {

struct LiveShape;

// Where the projected frames go: (frame) -> 6 * padded hidden values, both directions' gates.
using FrameSink = std::function<float*(int64_t frame)>;

// Rows of one stage, in order: `row` holds (width, channels) values and lives until the call returns.
using RowWatch = std::function<void(const float* row, int width, int channels)>;

// Packed weights of one network for one instruction set and precision; immutable, shared by all trunks.
class TrunkWeights {
 public:
  virtual ~TrunkWeights() = default;
  // For checks and benchmarks of the recurrent part alone: pooled vectors (frames, mel_bands / pooling * channels) in
  // the place of a trunk's.
  virtual void project_vectors(const float* vectors, int64_t frames, const FrameSink& sink, ThreadPool& pool) const = 0;
};

class Trunk {
 public:
  virtual ~Trunk() = default;
  // Memory of the next input row: mel_bands values to be written before push().
  virtual float* next_input(int64_t offset) = 0;
  virtual void push(int64_t rows, ThreadPool& pool) = 0;  // as schedule() has it, but for the last
  virtual void finish(ThreadPool& pool) = 0;              // rows pushed: a multiple of 8
  virtual const Schedule& schedule() const = 0;
  // Live: the frames that come out stand so many behind those pushed, which are a multiple of 8.
  virtual int64_t lag() const = 0;
  virtual void reset() = 0;
  // For checks: the stages whose rows can be watched, by the names of the torch modules that make the same, and what
  // is called with every row of one of them until reset(). Throws std::invalid_argument for another name.
  virtual std::vector<std::string> stage_names() const = 0;
  virtual std::vector<std::string> map_names() const = 0;  // feature maps, also those within residual blocks
  virtual void watch(const std::string& name, RowWatch seen) = 0;
};

std::shared_ptr<const TrunkWeights> pack_trunk(const NetworkShape& shape, const Tensors& tensors,
                                               const Kernels& kernels, Isa isa, Precision precision);
// With a live shape the frames come as early as they can; their bits are the same.
std::unique_ptr<Trunk> make_trunk(std::shared_ptr<const TrunkWeights> weights, FrameSink sink,
                                  const LiveShape* live = nullptr);

}  // namespace mtfa
