// upfirdn on GPUs. The filters of the networks (separable, 4 taps, one factor of 2 or none) have a kernel of their own:
// a thread walks down a strip of outputs and keeps the rows it has filtered along x in registers, so that every input
// is read from memory once. All other filters take a direct sum.
#include "cuda_common.cuh"
#include "resampling.h"

namespace ops {
namespace {

struct Filter {
  float v[kMaxTaps2d];
};
struct Axes {
  float y[kMaxTaps], x[kMaxTaps];
};

struct Shape {
  int64_t outer, inner;
  ResamplingAxis y, x;
};

template <typename T, typename F, bool Separable>
__global__ void __launch_bounds__(kThreads) direct_kernel(const T* in, T* out, Shape s, F filter, int64_t total) {
  for (int64_t i = blockIdx.x * int64_t(kThreads) + threadIdx.x; i < total; i += gridDim.x * int64_t(kThreads)) {
    const int64_t c = i % s.inner, pixel = i / s.inner;
    const int ox = int(pixel % s.x.out), oy = int(pixel / s.x.out % s.y.out);
    const int64_t n = pixel / s.x.out / s.y.out;
    int tap_y, sample_y;
    first_tap(s.y, oy, &tap_y, &sample_y);
    float sum = 0;
    for (; tap_y < s.y.taps; tap_y += s.y.up, ++sample_y) {
      if (sample_y < 0 || sample_y >= s.y.in) continue;
      const T* row = in + (n * s.y.in + sample_y) * s.x.in * s.inner + c;
      int tap_x, sample_x;
      first_tap(s.x, ox, &tap_x, &sample_x);
      float line = 0;
      for (; tap_x < s.x.taps; tap_x += s.x.up, ++sample_x) {
        if (sample_x < 0 || sample_x >= s.x.in) continue;
        float g;
        if constexpr (Separable) {
          g = filter.x[tap_x];
        } else {
          g = filter.v[tap_y * s.x.taps + tap_x];
        }
        line += g * widen(row[sample_x * s.inner]);
      }
      if constexpr (Separable) {
        sum += filter.y[tap_y] * line;
      } else {
        sum += line;
      }
    }
    out[i] = narrow<T, float>(sum);
  }
}

constexpr int kTaps = 4;
constexpr int kStrip = 32;  // output rows of one thread

// A thread makes P pixels of V channels in kStrip rows. U, D: factors, one of them 1. NHWC: P = 1; NCHW: V = 1.
template <typename T, int U, int D, int P, int V>
__global__ void __launch_bounds__(kThreads) strip_kernel(const T* in, T* out, Shape s, Axes filter, int64_t columns) {
  constexpr int kRows = kTaps / U;                             // input rows (and columns) that meet one output
  constexpr int kSpan = U == 1 ? (P - 1) * D + kTaps : P / 2 + kRows;  // input columns of P outputs
  const int64_t column = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (column >= columns) return;
  const int64_t vectors = s.inner / V, c = column % vectors * V;
  const int ox = int(column / vectors) * P;
  const int o_begin = blockIdx.y * kStrip, o_end = o_begin + kStrip < s.y.out ? o_begin + kStrip : s.y.out;
  int tap_x, first_x, tap_y, next;
  first_tap(s.x, ox, &tap_x, &first_x);
  first_tap(s.y, o_begin, &tap_y, &next);

  for (int64_t n = blockIdx.z; n < s.outer; n += gridDim.z) {
    const T* image = in + n * s.y.in * s.x.in * s.inner + c;
    T* target = out + (n * s.y.out * s.x.out + ox) * s.inner + c;
    float rows[kRows][P][V];
    int sample = next;  // the next input row to be filtered
    const auto push = [&] {
#pragma unroll
      for (int r = 0; r + 1 < kRows; ++r) {
#pragma unroll
        for (int p = 0; p < P; ++p) {
#pragma unroll
          for (int v = 0; v < V; ++v) rows[r][p][v] = rows[r + 1][p][v];
        }
      }
      float line[kSpan][V];
      const T* source = image + int64_t(sample) * s.x.in * s.inner;
      const bool inside = sample >= 0 && sample < s.y.in;
#pragma unroll
      for (int k = 0; k < kSpan; ++k) {
        const int ix = first_x + k;
        if (inside && ix >= 0 && ix < s.x.in) {
          load<T, V>(source + int64_t(ix) * s.inner, line[k]);
        } else {
#pragma unroll
          for (int v = 0; v < V; ++v) line[k][v] = 0;
        }
      }
#pragma unroll
      for (int p = 0; p < P; ++p) {
#pragma unroll
        for (int v = 0; v < V; ++v) {
          float sum = 0;
#pragma unroll
          for (int k = 0; k < kRows; ++k) {
            if constexpr (U == 1) {
              sum += filter.x[k] * line[p * D + k][v];
            } else {
              // Outputs alternate between the two phases; the first one's decides when the sample advances.
              const float value = tap_x == 0 ? line[(p + 1) / 2 + k][v] : line[p / 2 + k][v];
              sum += filter.x[((tap_x + p) & 1) + 2 * k] * value;
            }
          }
          rows[kRows - 1][p][v] = sum;
        }
      }
      ++sample;
    };
    // Fill the window but for its last row, which the first output pushes.
    for (int r = 0; r + 1 < kRows; ++r) push();
    int have = next;  // input row of rows[0] once the window is full
    bool full = false;
    for (int oy = o_begin; oy < o_end; ++oy) {
      int tap, want;
      first_tap(s.y, oy, &tap, &want);
      if (!full) {
        push();
        full = true;
      }
      for (; have < want; ++have) push();
      float result[P][V];
#pragma unroll
      for (int p = 0; p < P; ++p) {
#pragma unroll
        for (int v = 0; v < V; ++v) {
          float sum = 0;
#pragma unroll
          for (int k = 0; k < kRows; ++k) sum += filter.y[tap + U * k] * rows[k][p][v];
          result[p][v] = sum;
        }
      }
      T* pixel = target + int64_t(oy) * s.x.out * s.inner;
#pragma unroll
      for (int p = 0; p < P; ++p) {
        if (P == 1 || ox + p < s.x.out) store<T, V>(pixel + p * s.inner, result[p]);
      }
    }
  }
}

template <typename T, int U, int D>
bool launch_strip(const T* x, T* y, const Shape& s, const Axes& filter, cudaStream_t stream) {
  constexpr int full = 16 / sizeof(T);
  const bool vectors = s.inner > 1 && s.inner % full == 0 && aligned16(x) && aligned16(y);
  if (s.inner > 1 && !vectors) return false;
  constexpr int kPixels = 4;
  const int64_t columns = vectors ? s.inner / full * s.x.out : ceil_div(s.x.out, kPixels);
  const dim3 grid(unsigned(ceil_div(columns, kThreads)), unsigned(ceil_div(s.y.out, kStrip)),
                  unsigned(std::min<int64_t>(s.outer, 65535)));
  if (vectors) {
    strip_kernel<T, U, D, 1, full><<<grid, kThreads, 0, stream>>>(x, y, s, filter, columns);
  } else {
    strip_kernel<T, U, D, kPixels, 1><<<grid, kThreads, 0, stream>>>(x, y, s, filter, columns);
  }
  return true;
}

}  // namespace
}  // namespace ops

using namespace ops;

int ops_cuda_upfirdn(int dtype, const void* x, void* y, const int64_t* sizes, const int* numbers, const float* gy,
                     const float* gx, void* stream) {
  Shape s;
  s.outer = sizes[0];
  s.inner = sizes[1];
  s.y = {int(sizes[2]), int(sizes[3]), numbers[0], numbers[2], numbers[4], numbers[6]};
  s.x = {int(sizes[4]), int(sizes[5]), numbers[1], numbers[3], numbers[5], numbers[7]};
  const int64_t total = s.outer * s.inner * s.y.out * s.x.out;
  if (total == 0) return 0;
  const bool separable = gy != nullptr;
  if (s.y.taps > kMaxTaps || s.x.taps > kMaxTaps || (!separable && s.y.taps * s.x.taps > kMaxTaps2d)) {
    return cudaErrorInvalidValue;
  }
  const auto st = static_cast<cudaStream_t>(stream);
  return with_dtype(dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const T* in = static_cast<const T*>(x);
    T* out = static_cast<T*>(y);
    if (!separable) {
      Filter filter;
      std::copy(gx, gx + s.y.taps * s.x.taps, filter.v);
      direct_kernel<T, Filter, false><<<grid_for(total), kThreads, 0, st>>>(in, out, s, filter, total);
      return;
    }
    Axes filter;
    std::copy(gy, gy + s.y.taps, filter.y);
    std::copy(gx, gx + s.x.taps, filter.x);
    const bool square = s.y.up == s.x.up && s.y.down == s.x.down && s.y.taps == kTaps && s.x.taps == kTaps;
    bool done = false;
    if (square && s.x.up == 1 && s.x.down == 1) done = launch_strip<T, 1, 1>(in, out, s, filter, st);
    if (square && s.x.up == 2 && s.x.down == 1) done = launch_strip<T, 2, 1>(in, out, s, filter, st);
    if (square && s.x.up == 1 && s.x.down == 2) done = launch_strip<T, 1, 2>(in, out, s, filter, st);
    if (!done) direct_kernel<T, Axes, true><<<grid_for(total), kThreads, 0, st>>>(in, out, s, filter, total);
  });
}
