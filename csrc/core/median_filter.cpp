#include "core/median_filter.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace mtfa {
namespace {

// Integers in the order of the numbers, -0 before 0: a value that leaves the window is found again exactly.
template <class T>
using Key = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;

template <class T>
Key<T> to_key(T value) {
  Key<T> key;
  std::memcpy(&key, &value, sizeof key);
  return key < 0 ? key ^ std::numeric_limits<Key<T>>::max() : key;
}

template <class T>
T from_key(Key<T> key) {
  if (key < 0) key ^= std::numeric_limits<Key<T>>::max();
  T value;
  std::memcpy(&value, &key, sizeof value);
  return value;
}

// The values under the window but the NaN, sorted. The zeros beyond the recording's ends are a number only, so a window
// of any length costs no more memory than the recording.
template <class T>
class Window {
 public:
  explicit Window(int64_t capacity) { sorted_.reserve(static_cast<size_t>(capacity)); }

  void add(T value) {
    if (value != value) {
      ++nans_;
    } else {
      const Key<T> key = to_key(value);
      sorted_.insert(std::upper_bound(sorted_.begin(), sorted_.end(), key), key);
    }
  }

  void remove(T value) {
    if (value != value) {
      --nans_;
    } else {
      sorted_.erase(std::lower_bound(sorted_.begin(), sorted_.end(), to_key(value)));
    }
  }

  T median(int64_t window) const {
    if (nans_ > 0) return std::numeric_limits<T>::quiet_NaN();
    const int64_t rank = window / 2, zeros = window - static_cast<int64_t>(sorted_.size());
    if (zeros > 0) {
      const int64_t below = std::lower_bound(sorted_.begin(), sorted_.end(), Key<T>{0}) - sorted_.begin();
      if (rank >= below + zeros) return from_key<T>(sorted_[static_cast<size_t>(rank - zeros)]);
      if (rank >= below) return T{0};
    }
    return from_key<T>(sorted_[static_cast<size_t>(rank)]);
  }

 private:
  std::vector<Key<T>> sorted_;
  int64_t nans_ = 0;
};

void require_frames(int64_t frames) {
  if (frames < 0) throw std::invalid_argument("frames: got " + std::to_string(frames) + ", allowed: >= 0");
}

}  // namespace

void require_window(int64_t window) {
  if (window < 1 || window % 2 == 0) {
    throw std::invalid_argument("window: got " + std::to_string(window) + ", allowed: an odd number >= 1");
  }
}

template <class T>
void median_filter(const T* x, int64_t frames, int64_t stride, int64_t window, T* out) {
  require_window(window);
  require_frames(frames);
  bool binary = true;
  for (int64_t i = 0; i < frames && binary; ++i) binary = x[i * stride] == T{0} || x[i * stride] == T{1};
  if (binary) {
    majority(
        frames, window, [&](int64_t i) { return x[i * stride] == T{1}; },
        [&](int64_t i, bool active) { out[i * stride] = active ? T{1} : T{0}; });
    return;
  }
  const int64_t half = window / 2;
  Window<T> values(std::min(window, frames));
  for (int64_t i = 0; i < half && i < frames; ++i) values.add(x[i * stride]);
  for (int64_t i = 0; i < frames; ++i) {
    if (half < frames - i) values.add(x[(i + half) * stride]);
    out[i * stride] = values.median(window);
    if (i >= half) values.remove(x[(i - half) * stride]);
  }
}

template void median_filter(const float*, int64_t, int64_t, int64_t, float*);
template void median_filter(const double*, int64_t, int64_t, int64_t, double*);

void majority_filter(const uint8_t* x, int64_t frames, int64_t stride, int64_t window, uint8_t* out) {
  require_window(window);
  require_frames(frames);
  majority(
      frames, window, [&](int64_t i) { return x[i * stride] != 0; },
      [&](int64_t i, bool active) { out[i * stride] = active; });
}

}  // namespace mtfa
