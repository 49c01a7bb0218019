// upfirdn on GPUs. The filters of the networks (separable, 4 taps, one factor of 2 or none) have kernels of their own
// for planes and for channels that come last. Other separable filters: upfirdn_long.cu. What is left: a direct sum.
#include "cuda_short.cuh"

namespace ops {
namespace {

struct Filter {
  float v[kMaxTaps2d];
};
using Shape = UpfirdnShape;

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

// False where no kernel is made for this filter.
template <typename T>
bool launch_short(const T* x, T* y, const Shape& s, const Axes& filter, cudaStream_t stream) {
  if (s.y.up != s.x.up || s.y.down != s.x.down || s.y.taps != kTaps || s.x.taps != kTaps) return false;
  if (!aligned16(x) || !aligned16(y)) return false;
  return with_factors(s, [&](auto f) {
    constexpr int U = decltype(f)::kUp, D = decltype(f)::kDown;
    if (s.inner == 1) return launch_planes<T, U, D>(x, y, s, filter, stream);
    return launch_last<T, U, D>(x, y, s, filter, stream);
  });
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
    const bool done = launch_short(in, out, s, filter, st) || launch_long(in, out, s, filter, st);
    if (!done) direct_kernel<T, Axes, true><<<grid_for(total), kThreads, 0, st>>>(in, out, s, filter, total);
  });
}
