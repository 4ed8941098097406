// The passes over rows of 8-bit maps that are not convolutions 64 -> 64. The stem's weights, and those of dense
// products, hold the maps' steps.
// Like the convolution, the stem is compiled without contraction: every instruction set makes the same bytes.
#include "core/kernels/rows_int8.h"

#include "core/kernels/bytes.h"
#include "core/kernels/gemm.h"
#include "core/kernels/rows.h"

namespace mtfa {
namespace MTFA_ISA_NAMESPACE {

namespace {

typedef uint8_t Bytes __attribute__((vector_size(16)));

MTFA_INLINE Bytes load_raw(const uint8_t* p) {
  Bytes v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
MTFA_INLINE Bytes max_bytes(Bytes a, Bytes b) { return a > b ? a : b; }

// `pixels` pixels as floats, in the channels' steps or in counts.
void to_floats(const uint8_t* from, const float* step, int pixels, int channels, float* to) {
  for (int x = 0; x < pixels; ++x) {
    for (int c = 0; c < channels; c += kWidth) {
      const ptrdiff_t at = static_cast<ptrdiff_t>(x) * channels + c;
      const Vec value = load_bytes(from + at);
      store(to + at, step ? value * load(step + c) : value);
    }
  }
}

}  // namespace

void stem_int8(const StemRow<uint8_t>& args) {
  for (int c = 0; c < args.channels; c += kWidth) {
    Vec weights[9];
    for (int tap = 0; tap < 9; ++tap) weights[tap] = load(args.weights + tap * args.channels + c);
    const Vec bias = load(args.bias + c);
    for (int x = 0; x < args.width; ++x) {
      Vec sum = bias;
      for (int tap = 0; tap < 9; ++tap) sum += splat(args.in[tap / 3][x + tap % 3]) * weights[tap];
      store_bytes(args.out + static_cast<ptrdiff_t>(x + 1) * args.channels + c, sum);
    }
  }
}

void pool_int8(const uint8_t* a, const uint8_t* b, uint8_t* out, int width, int channels) {
  for (int x = 0; x < width / 2; ++x) {
    for (int c = 0; c < channels; c += static_cast<int>(sizeof(Bytes))) {
      const ptrdiff_t left = static_cast<ptrdiff_t>(2 * x + 1) * channels + c, right = left + channels;
      const Bytes top = max_bytes(load_raw(a + left), load_raw(a + right));
      const Bytes most = max_bytes(top, max_bytes(load_raw(b + left), load_raw(b + right)));
      std::memcpy(out + static_cast<ptrdiff_t>(x + 1) * channels + c, &most, sizeof most);
    }
  }
}

// Both maps and their sum have the same steps.
void upsample_add_int8(const uint8_t* skip, const uint8_t* low, uint8_t* out, int width, int channels) {
  for (int x = 0; x < width; ++x) {
    for (int c = 0; c < channels; c += static_cast<int>(sizeof(Bytes))) {
      const ptrdiff_t at = static_cast<ptrdiff_t>(x + 1) * channels + c;
      const Bytes a = load_raw(skip + at), b = load_raw(low + static_cast<ptrdiff_t>(x / 2 + 1) * channels + c);
      const Bytes room = ~a, sum = a + (b < room ? b : room);
      std::memcpy(out + at, &sum, sizeof sum);
    }
  }
}

void dense_int8(const Dense<uint8_t>& args) {
  float* in = static_cast<float*>(scratch<1>(sizeof(float) * args.rows * args.depth));
  for (int r = 0; r < args.rows; ++r)
    to_floats(args.in + r * args.in_stride, nullptr, 1, args.depth, in + static_cast<ptrdiff_t>(r) * args.depth);
  dense_rows<float>({in, args.depth, args.weights, args.bias, args.out, args.out_stride, args.rows, args.depth,
                     args.columns, args.relu, args.chain});
}

void gate_int8(const GateRow<uint8_t>& args) {
  const int channels = args.channels, pixels = args.width + 1;
  float* features = static_cast<float*>(scratch<1>(2 * sizeof(float) * pixels * channels));
  float* skip = features + static_cast<ptrdiff_t>(pixels) * channels;
  to_floats(args.features, args.features_step, pixels, channels, features);
  if (args.skip) to_floats(args.skip, args.skip_step, pixels, channels, skip);
  gate_row<float>({args.skip ? skip : nullptr, args.weights, args.bias, args.low, features, args.out, args.width,
                   channels, args.pooling, args.masks});
}

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa
