// Window, real FFT, power, mel and logarithm of kLanes frames at once: every operation is one on whole vectors, and
// lane l belongs to frame l from the first load to the last store. So no frame sees its neighbours, whoever they are.
//
// Double precision, because the result must be exact where a quiet band stands beside a loud one: on real recordings
// a single-precision FFT leaves errors of up to 8e-4 in the logarithm, eight times what is allowed.
#include "core/kernels/log_mel_kernel.h"

#include <string.h>

#include <utility>

namespace mtfa {
namespace MTFA_ISA_NAMESPACE {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 8;
#elif defined(__AVX2__)
constexpr int kLanes = 4;
#else
constexpr int kLanes = 2;
#endif
static_assert(kLanes <= kMaxLogMelLanes, "more lanes than callers expect");

typedef double Vector __attribute__((vector_size(kLanes * sizeof(double))));
typedef uint64_t Bits __attribute__((vector_size(kLanes * sizeof(double))));
typedef float Floats __attribute__((vector_size(kLanes * sizeof(float))));

struct Complex {
  Vector re, im;
};

#define MTFA_INLINE __attribute__((always_inline)) inline

MTFA_INLINE Complex load(const double* p) {
  const Vector* v = reinterpret_cast<const Vector*>(p);
  return {v[0], v[1]};
}
MTFA_INLINE void store(double* p, Complex c) {
  Vector* v = reinterpret_cast<Vector*>(p);
  v[0] = c.re;
  v[1] = c.im;
}
MTFA_INLINE Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
MTFA_INLINE Complex operator-(Complex a, Complex b) { return {a.re - b.re, a.im - b.im}; }
MTFA_INLINE Complex times(Complex a, const double* w) { return {a.re * w[0] - a.im * w[1], a.re * w[1] + a.im * w[0]}; }
MTFA_INLINE Complex times_minus_i(Complex a) { return {a.im, -a.re}; }

// --- input: rows of samples become vectors of lanes ---

// One step of the butterfly network that transposes a square: swaps the blocks of size S across the diagonal.
template <int S, int... E>
MTFA_INLINE void swap_blocks(Vector& a, Vector& b, std::integer_sequence<int, E...>) {
#if defined(__clang__) || __GNUC__ >= 12
  const Vector low = __builtin_shufflevector(a, b, ((E & S) ? kLanes + E - S : E)...);
  b = __builtin_shufflevector(a, b, ((E & S) ? kLanes + E : E + S)...);
#else
  const Vector low = __builtin_shuffle(a, b, Bits{((E & S) ? kLanes + E - S : E)...});
  b = __builtin_shuffle(a, b, Bits{((E & S) ? kLanes + E : E + S)...});
#endif
  a = low;
}

template <int S>
MTFA_INLINE void transpose(Vector* square) {
  for (int i = 0; i < kLanes; ++i) {
    if (!(i & S)) swap_blocks<S>(square[i], square[i + S], std::make_integer_sequence<int, kLanes>());
  }
  if constexpr (S * 2 < kLanes) transpose<S * 2>(square);
}

MTFA_INLINE void load_windowed(const LogMelTables& t, const float* const* rows, double* samples) {
  const int before = (t.fft_length - t.window_length) / 2, after = t.fft_length - t.window_length - before;
  memset(samples, 0, sizeof(Vector) * static_cast<size_t>(before));
  Vector* out = reinterpret_cast<Vector*>(samples) + before;
  int n = 0;
  for (; n + kLanes <= t.window_length; n += kLanes) {
    Vector square[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      Floats row;
      memcpy(&row, rows[lane] + n, sizeof row);
      square[lane] = __builtin_convertvector(row, Vector);
    }
    transpose<1>(square);
    for (int i = 0; i < kLanes; ++i) out[n + i] = square[i] * static_cast<double>(t.window[n + i]);
  }
  for (; n < t.window_length; ++n) {
    for (int lane = 0; lane < kLanes; ++lane) out[n][lane] = rows[lane][n];
    out[n] *= static_cast<double>(t.window[n]);
  }
  memset(out + n, 0, sizeof(Vector) * static_cast<size_t>(after));
}

// --- complex FFT in place, decimation in frequency, radix 4; output k ends at fft_position[k] ---

constexpr int kElement = 2 * kLanes;  // doubles of one complex number of all lanes

MTFA_INLINE void butterfly(const double* in, int64_t stride, Complex* out) {
  const Complex a = load(in), b = load(in + stride), c = load(in + 2 * stride), d = load(in + 3 * stride);
  const Complex even = a + c, odd = b + d, difference = a - c, turned = times_minus_i(b - d);
  out[0] = even + odd;
  out[1] = difference + turned;
  out[2] = even - odd;
  out[3] = difference - turned;
}

// `twiddles` of a transform of length m: (w^j, w^2j, w^3j) for j < m / 4, then those of length m / 4, and so on.
void transform(double* x, int m, const double* twiddles) {
  Complex y[4];
  if (m == 1) return;
  if (m == 2) {
    const Complex a = load(x), b = load(x + kElement);
    store(x, a + b);
    store(x + kElement, a - b);
    return;
  }
  const int quarter = m / 4;
  const int64_t stride = static_cast<int64_t>(quarter) * kElement;
  if (m == 4) {
    butterfly(x, stride, y);
    for (int r = 0; r < 4; ++r) store(x + r * stride, y[r]);
    return;
  }
  for (int j = 0; j < quarter; ++j) {
    double* const p = x + static_cast<int64_t>(j) * kElement;
    const double* const w = twiddles + 6 * j;
    butterfly(p, stride, y);
    store(p, y[0]);
    store(p + stride, times(y[1], w));
    store(p + 2 * stride, times(y[2], w + 2));
    store(p + 3 * stride, times(y[3], w + 4));
  }
  // Depth first: each quarter is finished while it is still in the first-level cache.
  for (int r = 0; r < 4; ++r) transform(x + r * stride, quarter, twiddles + 6 * quarter);
}

// --- power of the real signal's spectrum, from the FFT of its even (real) and odd (imaginary) samples ---

MTFA_INLINE Vector squared(Complex c) { return c.re * c.re + c.im * c.im; }

void power_spectrum(const LogMelTables& t, const double* z, Vector* power) {
  const int half = t.fft_length / 2;
  const Complex zero = load(z);
  power[0] = (zero.re + zero.im) * (zero.re + zero.im);
  power[half] = (zero.re - zero.im) * (zero.re - zero.im);
  for (int k = 1; k <= half / 2; ++k) {
    const Complex a = load(z + static_cast<int64_t>(t.fft_position[k]) * kElement);
    const Complex b = load(z + static_cast<int64_t>(t.fft_position[half - k]) * kElement);
    const Complex conjugate = {b.re, -b.im};
    const Complex even = a + conjugate;
    const Complex odd = times(times_minus_i(a - conjugate), t.split_twiddles + 2 * k);
    power[k] = squared(even + odd) * 0.25;
    power[half - k] = squared(even - odd) * 0.25;
  }
}

// --- natural logarithm, |error| < 3e-8: a thirtieth of the step of a float where the results lie ---

MTFA_INLINE Vector logarithm(Vector x) {
  // x = 2^e * m with sqrt(1/2) <= m < sqrt(2); log m = 2 artanh(s), s = (m - 1) / (m + 1), |s| <= 0.1716: the first
  // term left out is 2 s^9 / 9 < 3e-8.
  constexpr uint64_t kSqrtHalf = 0x3fe6a09e667f3bcd, kMantissa = 0x000fffffffffffff, kMagic = 0x4330000000000000;
  // The exponent is kept 1024 too large, so that shifts are unsigned (AVX2 has no others), and becomes a double as the
  // low bits of 2^52 + 1024 + e (AVX2 cannot convert 64-bit integers).
  const Bits shifted = reinterpret_cast<Bits>(x) - kSqrtHalf + (uint64_t{1024} << 52);
  const Vector m = reinterpret_cast<Vector>((shifted & kMantissa) + kSqrtHalf);
  const Vector e = reinterpret_cast<Vector>((shifted >> 52) | kMagic) - (4503599627370496.0 + 1024.0);
  const Vector s = (m - 1.0) / (m + 1.0), q = s * s;
  const Vector series = 2.0 + q * (2.0 / 3 + q * (2.0 / 5 + q * (2.0 / 7)));
  Vector result = e * 0.693147180559945309 + s * series;
  const Vector infinity = __builtin_inf() - Vector{}, nan = infinity - infinity;
  result = x < infinity ? result : x;  // infinity and NaN stay what they are
  return x < 0.0 ? nan : result;
}

}  // namespace

int log_mel_lanes() { return kLanes; }

int64_t log_mel_scratch(const LogMelTables& t) {
  return static_cast<int64_t>(kLanes) * (t.fft_length + t.fft_length / 2 + 1);
}

void log_mel_group(const LogMelTables& t, const float* const* rows, int lanes, double* scratch, float* out) {
  load_windowed(t, rows, scratch);
  transform(scratch, t.fft_length / 2, t.fft_twiddles);
  Vector* const power = reinterpret_cast<Vector*>(scratch + static_cast<int64_t>(kLanes) * t.fft_length);
  power_spectrum(t, scratch, power);
  for (int band = 0; band < t.bands; ++band) {
    const MelBand mel = t.mel_bands[band];
    const double* const weights = t.mel_weights + mel.offset;
    Vector sum = {};
    for (int i = 0; i < mel.count; ++i) sum += power[mel.first + i] * weights[i];
    const Vector result = logarithm(sum + t.floor);
    for (int lane = 0; lane < lanes; ++lane) {
      out[static_cast<int64_t>(lane) * t.bands + band] = static_cast<float>(result[lane]);
    }
  }
}

}  // namespace MTFA_ISA_NAMESPACE
}  // namespace mtfa
