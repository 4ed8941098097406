// The residual block over whole feature maps: relu(conv2(relu(conv1(x))) + x), rows streamed as in the trunk.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "core/kernels/kernels.h"
#include "core/memory.h"
#include "core/pack.h"
#include "core/thread_pool.h"

namespace mtfa {

// A feature map in any layout: the value (b, c, t, d) stands at data[b * strides[0] + ... + d * strides[3]].
template <class T>
struct StridedMap {
  T* data;
  int64_t strides[4];
};

// Immutable packed weights: any number of threads may use one. T is float or Bf16. Results do not depend on the number
// of threads, the batch or the layout.
template <class T>
class ResidualBlock {
 public:
  // Weights (channels, channels, 3, 3), biases (channels). The kernels must have T.
  ResidualBlock(int channels, const float* w1, const float* b1, const float* w2, const float* b2,
                const Kernels& kernels);
  ~ResidualBlock();
  int channels() const { return channels_; }

  // Maps (batch, channels, rows, width); out must not overlap x.
  void run(const StridedMap<const T>& x, const StridedMap<T>& out, int64_t batch, int64_t rows, int width,
           ThreadPool& pool) const;

 private:
  struct State;  // what one clip needs: rings of rows for one width
  std::unique_ptr<State> take(int width) const;
  void give_back(std::unique_ptr<State> state) const;
  void clip(const StridedMap<const T>& x, const StridedMap<T>& out, int64_t item, int64_t rows, int width,
            ThreadPool& pool) const;

  int channels_;
  const Kernels& kernels_;
  ConvWeights<T> conv1_, conv2_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<State>> idle_;
};

}  // namespace mtfa
