#include "core/spill.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "core/recurrent.h"

namespace mtfa {

namespace {

constexpr int64_t kBlock = FrameStore::kBlockFrames;
// Every other step of the kernel goes through the weights backwards: a block must begin as the whole would go on there.
static_assert(kBlock % 2 == 0);

}  // namespace

SpillFile::SpillFile(std::string folder) : folder_(std::move(folder)) {
  std::string name = folder_ + "/mtfa-fast-XXXXXX";
  file_ = mkstemp(name.data());
  if (file_ < 0) fail("making a temporary file", errno);
  unlink(name.c_str());
  fcntl(file_, F_SETFD, FD_CLOEXEC);
}

SpillFile::~SpillFile() { close(file_); }

void SpillFile::fail(const char* doing, int code) const {
  throw SpillError(code, std::string(std::strerror(code)) + " (" + doing + " in " + folder_ +
                             " for frames that do not fit in memory; TMPDIR names another folder)");
}

template <class Call>
void SpillFile::whole(Call call, const char* doing, int at_the_end, int64_t count, int64_t position) const {
  const int64_t size = count * static_cast<int64_t>(sizeof(float));
  const int64_t start = position * static_cast<int64_t>(sizeof(float));
  for (int64_t at = 0; at < size;) {
    const ssize_t done = call(at, static_cast<size_t>(size - at), start + at);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) fail(doing, done < 0 ? errno : at_the_end);
    at += done;
  }
}

void SpillFile::write(const float* from, int64_t count, int64_t position) {
  const char* data = reinterpret_cast<const char*>(from);
  whole([&](int64_t at, size_t size, off_t place) { return pwrite(file_, data + at, size, place); }, "writing", ENOSPC,
        count, position);
}

void SpillFile::read(float* to, int64_t count, int64_t position) const {
  char* data = reinterpret_cast<char*>(to);
  whole([&](int64_t at, size_t size, off_t place) { return pread(file_, data + at, size, place); }, "reading", EIO,
        count, position);
}

SpilledRecurrent::SpilledRecurrent(std::shared_ptr<const RecurrentWeights> weights, const std::string& folder)
    : weights_(std::move(weights)),
      file_(folder),
      gates_(static_cast<size_t>(kBlock) * 6 * weights_->hidden),
      states_(static_cast<size_t>(kBlock) * 2 * weights_->hidden),
      // One row more: the kernels find the second direction's numbers behind the first's.
      split_{AlignedArray<float>(static_cast<size_t>(kBlock + 1) * 4 * weights_->hidden),
             AlignedArray<float>(static_cast<size_t>(kBlock + 1) * 4 * weights_->hidden)} {}

int64_t SpilledRecurrent::gates_at(int64_t block, int direction) const {
  return (block * 8 + direction * 3) * kBlock * weights_->hidden;
}

int64_t SpilledRecurrent::states_at(int64_t block, int direction) const {
  return (block * 8 + 6 + direction) * kBlock * weights_->hidden;
}

float* SpilledRecurrent::projected(int64_t frame) {
  if (frame / kBlock != block_) {
    write_gates(block_);
    block_ = frame / kBlock;
  }
  return gates_.data() + frame % kBlock * 6 * weights_->hidden;
}

void SpilledRecurrent::write_gates(int64_t block) {
  const int64_t columns = 3 * weights_->hidden;
  float* half = split_[0].data();
  for (int direction = 0; direction < 2; ++direction) {
    for (int64_t t = 0; t < kBlock; ++t) {
      std::copy_n(gates_.data() + (2 * t + direction) * columns, columns, half + t * columns);
    }
    file_.write(half, kBlock * columns, gates_at(block, direction));
  }
}

void SpilledRecurrent::read_states(int64_t block) {
  const int64_t columns = weights_->hidden;
  float* half = split_[0].data();
  for (int direction = 0; direction < 2; ++direction) {
    file_.read(half, kBlock * columns, states_at(block, direction));
    for (int64_t t = 0; t < kBlock; ++t) {
      std::copy_n(half + t * columns, columns, states_.data() + (2 * t + direction) * columns);
    }
  }
}

void SpilledRecurrent::direction(int layer, int direction, int64_t frames) {
  const RecurrentWeights& w = *weights_;
  const int64_t h = w.hidden, blocks = (frames + kBlock - 1) / kBlock;
  // The kernels reach the second direction's numbers by an offset into each row; here it is one into all of them.
  float* const gates = split_[direction].data();
  float* const states = gates + (kBlock + 1) * 3 * h;
  std::vector<float*> gate_rows(kBlock), state_rows(kBlock);
  for (int64_t t = 0; t < kBlock; ++t) gate_rows[t] = gates + t * 3 * h, state_rows[t] = states + t * h;
  std::vector<float> carried(h);
  for (int64_t i = 0; i < blocks; ++i) {
    const int64_t block = direction ? blocks - 1 - i : i;
    const int64_t rows = std::min(kBlock, frames - block * kBlock);
    file_.read(gates + direction * 3 * h, rows * 3 * h, gates_at(block, direction));
    w.directions[layer][direction].run(direction, gate_rows.data(), state_rows.data(), rows, w.hidden, w.kernels,
                                       carried.data());
    std::copy_n(state_rows[direction ? 0 : rows - 1] + direction * h, h, carried.data());
    // A whole block, so that it can be read as one.
    file_.write(states + direction * h, kBlock * h, states_at(block, direction));
  }
}

void SpilledRecurrent::run(int64_t frames, int64_t count, float* out, ThreadPool& pool) {
  const RecurrentWeights& w = *weights_;
  write_gates(block_);
  pool.run(2, [&](int d) { direction(0, d, frames); });
  for (int64_t first = 0; first < frames; first += kBlock) {
    read_states(first / kBlock);
    w.project(states_.data(), gates_.data(), std::min(kBlock, frames - first), pool);
    write_gates(first / kBlock);
  }
  pool.run(2, [&](int d) { direction(1, d, frames); });
  for (int64_t first = 0; first < count; first += kBlock) {
    read_states(first / kBlock);
    w.head(states_.data(), out + first * w.shape.classes, std::min(kBlock, count - first), pool);
  }
}

}  // namespace mtfa
