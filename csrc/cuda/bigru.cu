// GRU recurrence with the recurrent weights in registers: one block per (clip, direction) for all steps.
//
// The steps depend on each other, so a clip's time is (steps) x (latency of one step), whatever the batch. Everything
// here shortens that chain: no grid synchronisation, one barrier a step, no memory access between h and the next h
// except the exchange of h through shared memory.
#include <type_traits>

#include "bigru.h"
#include "gru_math.h"
#include "launch.h"

namespace mtfa {
namespace {

// kLanes neighbouring threads share one hidden unit; lane q owns columns [q * kColumns, (q + 1) * kColumns) of the
// unit's three rows of W_hh. With H = 64 and 2 lanes that is 96 weights a thread, 4 warps, one per scheduler of the
// multiprocessor: fewer threads would not hold the weights, more would repeat the gates' arithmetic and lengthen the
// barrier.
template <int H, int kLanes>
struct Split {
  static constexpr int kColumns = H / kLanes;
  static constexpr int kThreads = H * kLanes;
  // Four floats of padding: the lanes of a warp read their parts of the vector at the same time, from different banks.
  static constexpr int kPitch = kColumns + 4;
};

template <int kLanes>
__device__ __forceinline__ float sum_lanes(float value) {
#pragma unroll
  for (int mask = 1; mask < kLanes; mask *= 2) value += __shfl_xor_sync(0xFFFFFFFFu, value, mask);
  return value;
}

template <int H, int kLanes, typename T>
__global__ void __launch_bounds__(H* kLanes)
    gru_forward(const T* __restrict__ gi, const float* __restrict__ w_hh, const float* __restrict__ b_hn,
                T* __restrict__ out, float* __restrict__ gates, int steps) {
  using S = Split<H, kLanes>;
  __shared__ __align__(16) float state[2][kLanes][S::kPitch];
  const int unit = static_cast<int>(threadIdx.x) / kLanes, lane = static_cast<int>(threadIdx.x) % kLanes;
  const int reverse = static_cast<int>(blockIdx.y);
  const int64_t clip = blockIdx.x;

  float w[3][S::kColumns];
#pragma unroll
  for (int g = 0; g < 3; g++) {
    const float* row = w_hh + (static_cast<int64_t>(reverse * 3 + g) * H + unit) * H + lane * S::kColumns;
#pragma unroll
    for (int k = 0; k < S::kColumns; k += 4) {
      const float4 v = *reinterpret_cast<const float4*>(row + k);
      w[g][k] = v.x, w[g][k + 1] = v.y, w[g][k + 2] = v.z, w[g][k + 3] = v.w;
    }
  }
  const float bias = b_hn[reverse * H + unit];
  const int direction = reverse ? -1 : 1;
  const int64_t first_step = clip * steps + (reverse ? steps - 1 : 0);
  const int64_t gi_stride = static_cast<int64_t>(direction) * 6 * H,
                out_stride = static_cast<int64_t>(direction) * 2 * H;
  // Lane 0 has the input of r, the others that of z; all have that of n. Pointers move with the steps, so that the loop
  // computes no addresses.
  const T* gi_at = gi + (first_step * 2 + reverse) * 3 * H + unit + (lane == 0 ? 0 : H);
  const int to_n = lane == 0 ? 2 * H : H;
  T* out_at = out + first_step * 2 * H + reverse * H + unit;

  // Steps between a load and its use, so that a miss in the L2 cache does not stop the chain; two are what the
  // registers beside 512 threads' weights leave.
  constexpr int kAhead = H <= 64 ? 4 : 2;
  static_assert(kAhead % 2 == 0, "the parity of the double buffer follows the unrolled step");
  float input[kAhead], input_n[kAhead];
#pragma unroll
  for (int p = 0; p < kAhead; p++) {
    if (p < steps) input[p] = static_cast<float>(gi_at[0]), input_n[p] = static_cast<float>(gi_at[to_n]);
    gi_at += gi_stride;
  }

  for (int i = static_cast<int>(threadIdx.x); i < 2 * kLanes * S::kPitch; i += S::kThreads) (&state[0][0][0])[i] = 0.0f;
  float h = 0.0f;
  __syncthreads();

  for (int done = 0; done < steps; done += kAhead) {
#pragma unroll
    for (int p = 0; p < kAhead; p++) {
      if (done + p >= steps) break;
      const float4* part = reinterpret_cast<const float4*>(state[p & 1][lane]);
      // The inputs and b_hn enter through one lane each, so that the sum over lanes counts them once.
      float r = lane == 0 ? input[p] : 0.0f, z = lane == 1 ? input[p] : 0.0f, hidden = lane == 1 ? bias : 0.0f;
      const float n_input = input_n[p];
      // Two sums a gate: six chains of dependent multiply-adds hide each other's latency.
      float r2 = 0.0f, z2 = 0.0f, hidden2 = 0.0f;
#pragma unroll
      for (int k = 0; k < S::kColumns; k += 4) {
        const float4 v = part[k / 4];
        r = fmaf(w[0][k], v.x, r), z = fmaf(w[1][k], v.x, z), hidden = fmaf(w[2][k], v.x, hidden);
        r2 = fmaf(w[0][k + 1], v.y, r2), z2 = fmaf(w[1][k + 1], v.y, z2), hidden2 = fmaf(w[2][k + 1], v.y, hidden2);
        r = fmaf(w[0][k + 2], v.z, r), z = fmaf(w[1][k + 2], v.z, z), hidden = fmaf(w[2][k + 2], v.z, hidden);
        r2 = fmaf(w[0][k + 3], v.w, r2), z2 = fmaf(w[1][k + 3], v.w, z2), hidden2 = fmaf(w[2][k + 3], v.w, hidden2);
      }
      // Memory accesses that nobody waits for stand here, under the latency of the gates: the input of a later step and
      // the state of the step before.
      if (done + p + kAhead < steps) {
        input[p] = static_cast<float>(gi_at[0]), input_n[p] = static_cast<float>(gi_at[to_n]);
      }
      gi_at += gi_stride;
      if (done + p > 0) {
        if (lane == 1) *out_at = static_cast<T>(h);
        out_at += out_stride;
      }
      r = sigmoid(sum_lanes<kLanes>(r + r2));
      z = sigmoid(sum_lanes<kLanes>(z + z2));
      hidden = sum_lanes<kLanes>(hidden + hidden2);
      const float n = tanh_by_sigmoid(fmaf(r, hidden, n_input));
      h = fmaf(z, h - n, n);
      if (lane == 0) state[(p & 1) ^ 1][unit / S::kColumns][unit % S::kColumns] = h;
      __syncthreads();
      if (gates != nullptr && lane < 2) {
        const int64_t t = reverse ? steps - 1 - done - p : done + p;
        float* g = gates + ((clip * steps + t) * 2 + reverse) * 4 * H + unit + lane * H;
        g[0] = lane == 0 ? r : z, g[2 * H] = lane == 0 ? n : hidden;
      }
    }
  }
  if (lane == 1) *out_at = static_cast<T>(h);
}

// The same split, transposed: the thread's columns of W_hh^T are 3 x kColumns elements of column `unit` of W_hh.
template <int H, int kLanes, typename T>
__global__ void __launch_bounds__(H* kLanes)
    gru_backward(const T* __restrict__ d_out, const T* __restrict__ out, const float* __restrict__ gates,
                 const float* __restrict__ w_hh, T* __restrict__ d_gi, T* __restrict__ d_hn, int steps) {
  using S = Split<H, kLanes>;
  __shared__ __align__(16) float shared[2][3][kLanes][S::kPitch];
  const int unit = static_cast<int>(threadIdx.x) / kLanes, lane = static_cast<int>(threadIdx.x) % kLanes;
  const int reverse = static_cast<int>(blockIdx.y);
  const int64_t clip = blockIdx.x;

  float w[3][S::kColumns];
#pragma unroll
  for (int g = 0; g < 3; g++)
#pragma unroll
    for (int k = 0; k < S::kColumns; k++)
      w[g][k] = w_hh[(static_cast<int64_t>(reverse * 3 + g) * H + lane * S::kColumns + k) * H + unit];

  const int64_t row = clip * steps * 2 + reverse;  // of arrays [B][T][2][...] at t = 0
  const int before = reverse ? 1 : -1;             // from a step to the one that the recurrence did before it
  int t = reverse ? 0 : steps - 1;

  // A step's six numbers, fetched in shares as in the forward kernel: gate g by lane g % kLanes, then d_out by lane 0
  // and the state before the step by lane 1.
  struct Share {
    float gate[4 / kLanes], outer;
  };
  auto fetch = [&](int step) {
    Share s = {};
    if (static_cast<unsigned>(step) < static_cast<unsigned>(steps)) {
      const int64_t at = row + static_cast<int64_t>(step) * 2;
#pragma unroll
      for (int i = 0; i < 4 / kLanes; i++) s.gate[i] = gates[(at * 4 + i * kLanes + lane) * H + unit];
      const bool first = static_cast<unsigned>(step + before) >= static_cast<unsigned>(steps);
      if (lane == 0) s.outer = static_cast<float>(d_out[at * H + unit]);
      if (lane == 1 && !first) s.outer = static_cast<float>(out[(at + 2 * before) * H + unit]);
    }
    return s;
  };
  constexpr int kAhead = 4;
  static_assert(kAhead % 2 == 0, "as above");
  Share ahead[kAhead];
#pragma unroll
  for (int p = 0; p < kAhead; p++) ahead[p] = fetch(t + before * p);

  float carried = 0.0f;  // gradient with respect to the state after step t that comes from the steps after it
  for (int done = 0; done < steps; done += kAhead) {
#pragma unroll
    for (int p = 0; p < kAhead; p++) {
      if (done + p >= steps) break;
      auto gate = [&](int g) { return __shfl_sync(0xFFFFFFFFu, ahead[p].gate[g / kLanes], g % kLanes, kLanes); };
      const float r = gate(0), z = gate(1), n = gate(2), hidden = gate(3);
      const float previous = __shfl_sync(0xFFFFFFFFu, ahead[p].outer, 1, kLanes);
      const float d_h = __shfl_sync(0xFFFFFFFFu, ahead[p].outer, 0, kLanes) + carried;
      ahead[p] = fetch(t + before * kAhead);
      const float d_n = d_h * (1.0f - z) * (1.0f - n * n);
      const float d_z = d_h * (previous - n) * z * (1.0f - z);
      const float d_r = d_n * hidden * r * (1.0f - r);
      const float d_hidden = d_n * r;
      if (lane == 0) {
        float* part = &shared[p & 1][0][unit / S::kColumns][unit % S::kColumns];
        part[0] = d_r;
        part[kLanes * S::kPitch] = d_z;
        part[2 * kLanes * S::kPitch] = d_hidden;
      }
      __syncthreads();
      float sums[3] = {}, sums2[3] = {};
#pragma unroll
      for (int k = 0; k < S::kColumns; k += 4)
#pragma unroll
        for (int g = 0; g < 3; g++) {
          const float4 v = reinterpret_cast<const float4*>(shared[p & 1][g][lane])[k / 4];
          sums[g] = fmaf(w[g][k], v.x, sums[g]), sums2[g] = fmaf(w[g][k + 1], v.y, sums2[g]);
          sums[g] = fmaf(w[g][k + 2], v.z, sums[g]), sums2[g] = fmaf(w[g][k + 3], v.w, sums2[g]);
        }
      carried = fmaf(d_h, z, sum_lanes<kLanes>((sums[0] + sums2[0]) + (sums[1] + sums2[1]) + (sums[2] + sums2[2])));
      const int64_t at = row + static_cast<int64_t>(t) * 2;
      T* gi_at = d_gi + at * 3 * H + unit;
      if (lane == 0) {
        gi_at[0] = static_cast<T>(d_r);
        gi_at[2 * H] = static_cast<T>(d_n);
      } else if (lane == 1) {
        gi_at[H] = static_cast<T>(d_z);
        d_hn[at * H + unit] = static_cast<T>(d_hidden);
      }
      t += before;
    }
  }
}

bool fits(int64_t batch, int64_t steps) {
  return batch >= 0 && batch < (int64_t{1} << 31) && steps >= 0 && steps < (int64_t{1} << 30);
}

}  // namespace
}  // namespace mtfa

MTFA_API int mtfa_bigru_forward(const void* gi, const float* w_hh, const float* b_hn, void* out, float* gates,
                                int dtype, int64_t batch, int64_t steps, int hidden, int lanes, int device,
                                void* stream) {
  using namespace mtfa;
  if (!fits(batch, steps)) return cudaErrorInvalidValue;
  if (batch == 0 || steps == 0) return cudaSuccess;
  if (const cudaError_t error = use_device(device)) return error;
  return with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    auto run = [&](auto kernel, int threads) {
      return launch(kernel, dim3(static_cast<unsigned>(batch), 2), threads, 0, stream, static_cast<const T*>(gi), w_hh,
                    b_hn, static_cast<T*>(out), gates, static_cast<int>(steps));
    };
    if (hidden == 64 && (lanes == 0 || lanes == 2)) return run(gru_forward<64, 2, T>, Split<64, 2>::kThreads);
    if constexpr (std::is_same_v<T, float>) {  // to be measured against two lanes; one type is enough for that
      if (hidden == 64 && lanes == 4) return run(gru_forward<64, 4, T>, Split<64, 4>::kThreads);
    }
    if (hidden == 128 && (lanes == 0 || lanes == 4)) return run(gru_forward<128, 4, T>, Split<128, 4>::kThreads);
    return cudaErrorInvalidValue;
  });
}

MTFA_API int mtfa_bigru_backward(const void* d_out, const void* out, const float* gates, const float* w_hh, void* d_gi,
                                 void* d_hn, int dtype, int64_t batch, int64_t steps, int hidden, int device,
                                 void* stream) {
  using namespace mtfa;
  if (!fits(batch, steps)) return cudaErrorInvalidValue;
  if (batch == 0 || steps == 0) return cudaSuccess;
  if (const cudaError_t error = use_device(device)) return error;
  return with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    auto run = [&](auto kernel, int threads) {
      return launch(kernel, dim3(static_cast<unsigned>(batch), 2), threads, 0, stream, static_cast<const T*>(d_out),
                    static_cast<const T*>(out), gates, w_hh, static_cast<T*>(d_gi), static_cast<T*>(d_hn),
                    static_cast<int>(steps));
    };
    if (hidden == 64) return run(gru_backward<64, 2, T>, Split<64, 2>::kThreads);
    if (hidden == 128) return run(gru_backward<128, 4, T>, Split<128, 4>::kThreads);
    return cudaErrorInvalidValue;
  });
}
