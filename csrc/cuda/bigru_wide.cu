// GRU recurrence for any H up to 256, fp32. With H = 256 the weights (786 KB) fit neither registers nor shared memory,
// so a part of them is read from the L2 cache in each step; a block therefore runs kClips clips side by side, which use
// each weight kClips times.
#include <algorithm>

#include "bigru.h"
#include "gru_math.h"
#include "launch.h"

namespace mtfa {
namespace {

constexpr int kMaxHidden = 256;
constexpr int kMaxThreads = 3 * kMaxHidden;

// Numbers of shared memory per hidden unit and clip, beside the weights.
constexpr int kForwardState = 5;   // state, three sums, the input of n
constexpr int kBackwardState = 7;  // three gradients, three partial sums, the direct path through z

template <int kClips>
struct Clips {
  float v[kClips];
};

template <int kClips>
__device__ __forceinline__ void multiply_add(float w, const Clips<kClips>& x, Clips<kClips>& sum) {
#pragma unroll
  for (int n = 0; n < kClips; n++) sum.v[n] = fmaf(w, x.v[n], sum.v[n]);
}

// Thread `row` owns row `row` of W_hh (3H of them). w_t is W_hh transposed, [H][3H], so that neighbouring threads read
// neighbouring numbers; its first `resident` rows stay in shared memory.
template <int kClips>
__global__ void __launch_bounds__(kMaxThreads, 1)
    wide_forward(const float* __restrict__ gi, const float* __restrict__ w_hh_t, const float* __restrict__ b_hn,
                 float* __restrict__ out, float* __restrict__ gates, int64_t batch, int steps, int H, int resident) {
  using V = Clips<kClips>;
  const int row = static_cast<int>(threadIdx.x), reverse = static_cast<int>(blockIdx.y), rows = 3 * H;
  const bool active = row < rows;
  const int64_t clip0 = static_cast<int64_t>(blockIdx.x) * kClips;
  V* state = dynamic_shared<V>();  // [H]
  V* sums = state + H;             // [3H]: r and z with their inputs, n without
  V* inputs = sums + rows;         // [H]: the input of n
  float* weights = reinterpret_cast<float*>(inputs + H);
  const float* w_t = w_hh_t + static_cast<int64_t>(reverse) * H * rows;
  for (int i = row; i < resident * rows; i += static_cast<int>(blockDim.x)) weights[i] = w_t[i];
  for (int i = row; i < H; i += static_cast<int>(blockDim.x)) state[i] = V{};
  const float bias = active && row >= 2 * H ? b_hn[reverse * H + row - 2 * H] : 0.0f;
  __syncthreads();

  for (int done = 0; done < steps; done++) {
    const int t = reverse ? steps - 1 - done : done;
    if (active) {
      V input = {}, sum;
#pragma unroll
      for (int n = 0; n < kClips; n++) {  // long before its use: the products below hide the load
        sum.v[n] = bias;
        if (clip0 + n < batch) input.v[n] = gi[(((clip0 + n) * steps + t) * 2 + reverse) * rows + row];
      }
#pragma unroll 8
      for (int k = 0; k < resident; k++) multiply_add(weights[k * rows + row], state[k], sum);
#pragma unroll 8
      for (int k = resident; k < H; k++) multiply_add(__ldg(w_t + k * rows + row), state[k], sum);
      if (row < 2 * H) {
        multiply_add(1.0f, input, sum);
      } else {
        inputs[row - 2 * H] = input;
      }
      sums[row] = sum;
    }
    __syncthreads();
    for (int i = row; i < H * kClips; i += static_cast<int>(blockDim.x)) {
      const int unit = i / kClips, n = i % kClips;
      const float r = sigmoid(sums[unit].v[n]), z = sigmoid(sums[H + unit].v[n]), hidden = sums[2 * H + unit].v[n];
      const float candidate = tanh_by_sigmoid(fmaf(r, hidden, inputs[unit].v[n]));
      const float h = fmaf(z, state[unit].v[n] - candidate, candidate);
      state[unit].v[n] = h;
      if (clip0 + n >= batch) continue;
      const int64_t at = ((clip0 + n) * steps + t) * 2 + reverse;
      out[at * H + unit] = h;
      if (gates != nullptr) {
        float* g = gates + at * 4 * H + unit;
        g[0] = r, g[H] = z, g[2 * H] = candidate, g[3 * H] = hidden;
      }
    }
    __syncthreads();
  }
}

// Thread g * H + unit sums column `unit` of gate g's H rows of W_hh; the first `resident` rows of each gate stay in
// shared memory.
template <int kClips>
__global__ void __launch_bounds__(kMaxThreads, 1)
    wide_backward(const float* __restrict__ d_out, const float* __restrict__ out, const float* __restrict__ gates,
                  const float* __restrict__ w_hh, float* __restrict__ d_gi, float* __restrict__ d_hn, int64_t batch,
                  int steps, int H, int resident) {
  using V = Clips<kClips>;
  const int row = static_cast<int>(threadIdx.x), reverse = static_cast<int>(blockIdx.y), rows = 3 * H;
  const bool active = row < rows;
  const int gate = row / H, column = row % H;
  const int64_t clip0 = static_cast<int64_t>(blockIdx.x) * kClips;
  V* grads = dynamic_shared<V>();  // [3H]: with respect to W_h h of r, z, n
  V* partial = grads + rows;       // [3H]: each gate's part of W_hh^T grads
  V* direct = partial + rows;      // [H]: the part that flows through z
  float* weights = reinterpret_cast<float*>(direct + H);
  const float* w = w_hh + static_cast<int64_t>(reverse) * rows * H;
  for (int i = row; i < 3 * resident * H; i += static_cast<int>(blockDim.x)) {
    const int g = i / (resident * H);
    weights[i] = w[g * H * H + i - g * resident * H];
  }
  for (int i = row; i < rows; i += static_cast<int>(blockDim.x)) partial[i] = V{};
  for (int i = row; i < H; i += static_cast<int>(blockDim.x)) direct[i] = V{};
  __syncthreads();

  const int before = reverse ? 1 : -1;
  for (int done = 0; done < steps; done++) {
    const int t = reverse ? done : steps - 1 - done;
    const bool first = done == steps - 1;
    for (int i = row; i < H * kClips; i += static_cast<int>(blockDim.x)) {
      const int unit = i / kClips, n = i % kClips;
      float d_r = 0.0f, d_z = 0.0f, d_hidden = 0.0f, d_direct = 0.0f;
      if (clip0 + n < batch) {
        const int64_t at = ((clip0 + n) * steps + t) * 2 + reverse;
        const float* g = gates + at * 4 * H + unit;
        const float r = g[0], z = g[H], candidate = g[2 * H], hidden = g[3 * H];
        const float previous = first ? 0.0f : out[(at + 2 * before) * H + unit];
        const float d_h = d_out[at * H + unit] + direct[unit].v[n] + partial[unit].v[n] + partial[H + unit].v[n] +
                          partial[2 * H + unit].v[n];
        const float d_n = d_h * (1.0f - z) * (1.0f - candidate * candidate);
        d_z = d_h * (previous - candidate) * z * (1.0f - z);
        d_r = d_n * hidden * r * (1.0f - r);
        d_hidden = d_n * r;
        d_direct = d_h * z;
        float* gi_at = d_gi + at * rows + unit;
        gi_at[0] = d_r, gi_at[H] = d_z, gi_at[2 * H] = d_n;
        d_hn[at * H + unit] = d_hidden;
      }
      grads[unit].v[n] = d_r, grads[H + unit].v[n] = d_z, grads[2 * H + unit].v[n] = d_hidden;
      direct[unit].v[n] = d_direct;
    }
    __syncthreads();
    if (active) {
      V sum = {};
#pragma unroll 8
      for (int k = 0; k < resident; k++)
        multiply_add(weights[(gate * resident + k) * H + column], grads[gate * H + k], sum);
#pragma unroll 8
      for (int k = resident; k < H; k++) multiply_add(__ldg(w + (gate * H + k) * H + column), grads[gate * H + k], sum);
      partial[row] = sum;
    }
    __syncthreads();
  }
}

struct Plan {
  int clips, resident, threads;
  std::size_t shared;
  dim3 grid;
};

// One clip a block while that leaves multiprocessors idle, four when it does not.
cudaError_t make_plan(int64_t batch, int64_t steps, int hidden, int state, int device, Plan* plan) {
  if (batch < 0 || batch >= (int64_t{1} << 31) || steps < 0 || steps >= (int64_t{1} << 30) || hidden < 1 ||
      hidden > kMaxHidden) {
    return cudaErrorInvalidValue;
  }
  cudaError_t error = use_device(device);
  int limit = 0, multiprocessors = 0;
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  if (error != cudaSuccess) return error;
  plan->clips = batch * 2 > multiprocessors ? 4 : 1;
  const int fixed = state * hidden * plan->clips * static_cast<int>(sizeof(float));
  const int column = 3 * hidden * static_cast<int>(sizeof(float));
  plan->resident = std::max(0, std::min(hidden, (limit - fixed) / column));
  plan->shared = static_cast<std::size_t>(fixed + plan->resident * column);
  plan->threads = (3 * hidden + 31) / 32 * 32;
  plan->grid = dim3(static_cast<unsigned>((batch + plan->clips - 1) / plan->clips), 2);
  return cudaSuccess;
}

}  // namespace
}  // namespace mtfa

MTFA_API int mtfa_bigru_wide_forward(const float* gi, const float* w_hh_t, const float* b_hn, float* out, float* gates,
                                     int64_t batch, int64_t steps, int hidden, int device, void* stream) {
  using namespace mtfa;
  Plan plan;
  if (const cudaError_t error = make_plan(batch, steps, hidden, kForwardState, device, &plan)) return error;
  if (batch == 0 || steps == 0) return cudaSuccess;
  return launch(plan.clips == 1 ? wide_forward<1> : wide_forward<4>, plan.grid, plan.threads, plan.shared, stream, gi,
                w_hh_t, b_hn, out, gates, batch, static_cast<int>(steps), hidden, plan.resident);
}

MTFA_API int mtfa_bigru_wide_backward(const float* d_out, const float* out, const float* gates, const float* w_hh,
                                      float* d_gi, float* d_hn, int64_t batch, int64_t steps, int hidden, int device,
                                      void* stream) {
  using namespace mtfa;
  Plan plan;
  if (const cudaError_t error = make_plan(batch, steps, hidden, kBackwardState, device, &plan)) return error;
  if (batch == 0 || steps == 0) return cudaSuccess;
  return launch(plan.clips == 1 ? wide_backward<1> : wide_backward<4>, plan.grid, plan.threads, plan.shared, stream,
                d_out, out, gates, w_hh, d_gi, d_hn, batch, static_cast<int>(steps), hidden, plan.resident);
}
