// Frames that do not fit in memory: the recurrent part with its numbers in a temporary file.
#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/memory.h"
#include "core/thread_pool.h"

namespace mtfa {

class RecurrentWeights;

// The system's refusal of a temporary file, a full disk above all. `code` is errno.
struct SpillError : std::runtime_error {
  SpillError(int code, const std::string& text) : std::runtime_error(text), code(code) {}
  const int code;
};

// How much of one recording's frames is kept in memory, in bytes, and the folder for what is more.
struct MemoryLimit {
  int64_t bytes;
  std::string folder;
};

// A file without a name, gone with the object, whatever ends the process. Throws SpillError.
class SpillFile {
 public:
  explicit SpillFile(std::string folder);
  ~SpillFile();
  SpillFile(const SpillFile&) = delete;
  SpillFile& operator=(const SpillFile&) = delete;
  // `count` floats at the float `position`; of several threads at once, at different places.
  void write(const float* from, int64_t count, int64_t position);
  void read(float* to, int64_t count, int64_t position) const;

 private:
  // `call` again until it has done all, from byte to byte.
  template <class Call>
  void whole(Call call, const char* doing, int at_the_end, int64_t count, int64_t position) const;
  [[noreturn]] void fail(const char* doing, int code) const;
  const std::string folder_;
  int file_;
};

// What class Recurrent does in memory, block by block from a file: the same steps in the same order, so the same bits.
// Both directions run at once, one from the first block on, the other from the last. Some 10 MB of memory.
class SpilledRecurrent {
 public:
  SpilledRecurrent(std::shared_ptr<const RecurrentWeights> weights, const std::string& folder);
  // As Recurrent's: frames come in order, and those of earlier blocks are complete; an even number of them in all.
  float* projected(int64_t frame);
  void run(int64_t frames, int64_t count, float* out, ThreadPool& pool);

 private:
  // Of one block in the file, one after the other: each direction's gates (frames, 3 * hidden) and states (frames,
  // hidden). A direction reads and writes its own alone.
  int64_t gates_at(int64_t block, int direction) const;
  int64_t states_at(int64_t block, int direction) const;
  void write_gates(int64_t block);
  void read_states(int64_t block);
  void direction(int layer, int direction, int64_t frames);

  const std::shared_ptr<const RecurrentWeights> weights_;
  SpillFile file_;
  AlignedArray<float> gates_, states_;  // a block's rows as the kernels of both directions together have them
  AlignedArray<float> split_[2];        // and one direction's rows, as they are in the file
  int64_t block_ = 0;                   // whose frames are in gates_
};

}  // namespace mtfa
