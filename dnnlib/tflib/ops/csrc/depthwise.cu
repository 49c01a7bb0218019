// Depthwise convolution on GPUs, channels last, with bias and clipping. A thread makes a few results side by side of
// one vector of channels: it loads every number of a row, and the weights of the row, once for all of them.
#include "cuda_common.cuh"
#include "depthwise.h"

namespace ops {
namespace {

constexpr int kColumns = 4;  // results of a thread

// Numbers of the type of the sums.
struct Limits {
  float low, high;
};

__device__ __forceinline__ float cut(float v, const Limits& limits) {
  v = limits.low > v ? limits.low : v;  // a NaN stays one
  return limits.high < v ? limits.high : v;
}

// Adds a row of the kernel to the sums. from: the row of the image, at column 0; x: the column of the first number.
template <typename T, int V, int Width, int Stride>
__device__ __forceinline__ void add_row(const DepthwiseShape& s, const T* from, int x, const T* w,
                                        float (*sum)[V]) {
  constexpr int kInputs = (kColumns - 1) * Stride + Width;
  float weight[Width][V];
#pragma unroll
  for (int k = 0; k < Width; ++k) load<T, V>(w + k * s.channels, weight[k]);
#pragma unroll
  for (int j = 0; j < kInputs; ++j) {
    if (x + j < 0 || x + j >= s.in_w) continue;
    float v[V];
    load<T, V>(from + (x + j) * s.channels, v);
#pragma unroll
    for (int k = 0; k < Width; ++k) {
      const int t = (j - k) / Stride;  // the result that meets it through weight k
      if (j < k || (j - k) % Stride != 0 || t >= kColumns) continue;
#pragma unroll
      for (int i = 0; i < V; ++i) sum[t][i] += v[i] * weight[k][i];
    }
  }
}

// The same for kernels and strides of any size.
template <typename T, int V>
__device__ __forceinline__ void add_any_row(const DepthwiseShape& s, const T* from, int x, const T* w,
                                            float (*sum)[V]) {
  for (int k = 0; k < s.kernel_w; ++k) {
    float weight[V];
    load<T, V>(w + k * s.channels, weight);
#pragma unroll
    for (int t = 0; t < kColumns; ++t) {
      const int64_t at = int64_t(t) * s.stride + x + k;
      if (at < 0 || at >= s.in_w) continue;
      float v[V];
      load<T, V>(from + at * s.channels, v);
#pragma unroll
      for (int i = 0; i < V; ++i) sum[t][i] += v[i] * weight[i];
    }
  }
}

// Width, Stride: 0 for any. `work` counts threads: vectors of channels, then groups of columns, rows, images.
template <typename T, int V, int Width, int Stride, typename Index>
__global__ void __launch_bounds__(kThreads)
    depthwise_kernel(const T* __restrict__ x, const T* __restrict__ w, const T* __restrict__ b, T* __restrict__ y,
                     DepthwiseShape s, Limits limits, int64_t work) {
  const Index vectors = Index(s.channels / V), groups = Index((s.out_w + kColumns - 1) / kColumns);
  for (int64_t i = blockIdx.x * int64_t(kThreads) + threadIdx.x; i < work; i += gridDim.x * int64_t(kThreads)) {
    const Index group = Index(i) / vectors, line = group / groups, n = line / Index(s.out_h);
    const int64_t c = int64_t(Index(i) - group * vectors) * V;
    const int ox = int(group - line * groups) * kColumns, oy = int(line - n * Index(s.out_h));
    const int64_t ix = int64_t(ox) * s.stride - s.pad_x, iy = int64_t(oy) * s.stride - s.pad_y;
    float sum[kColumns][V];
#pragma unroll
    for (int v = 0; v < V; ++v) sum[0][v] = 0;
    if (b != nullptr) load<T, V>(b + c, sum[0]);
#pragma unroll
    for (int t = 1; t < kColumns; ++t) {
#pragma unroll
      for (int v = 0; v < V; ++v) sum[t][v] = sum[0][v];
    }
    for (int k = 0; k < s.kernel_h; ++k) {
      if (iy + k < 0 || iy + k >= s.in_h) continue;
      const T* from = x + ((int64_t(n) * s.in_h + iy + k) * s.in_w) * s.channels + c;
      const T* weights = w + int64_t(k) * s.kernel_w * s.channels + c;
      if constexpr (Width > 0) {
        add_row<T, V, Width, Stride>(s, from, int(ix), weights, sum);
      } else {
        add_any_row<T, V>(s, from, int(ix), weights, sum);
      }
    }
    T* to = y + ((int64_t(n) * s.out_h + oy) * s.out_w + ox) * s.channels + c;
#pragma unroll
    for (int t = 0; t < kColumns; ++t) {
      if (ox + t >= s.out_w) break;
#pragma unroll
      for (int v = 0; v < V; ++v) sum[t][v] = cut(sum[t][v], limits);
      store<T, V>(to + t * s.channels, sum[t]);
    }
  }
}

template <typename T, int V, int Width, int Stride>
void launch(const T* x, const T* w, const T* b, T* y, const DepthwiseShape& s, cudaStream_t stream) {
  const int64_t work = s.samples * s.out_h * ceil_div(s.out_w, kColumns) * (s.channels / V);
  const Limits limits{float(s.low), float(s.high)};
  with_index(work, [&](auto index) {
    using Index = decltype(index);
    depthwise_kernel<T, V, Width, Stride, Index>
        <<<grid_for(work), kThreads, 0, stream>>>(x, w, b, y, s, limits, work);
  });
}

template <typename T, int V>
void launch_size(const T* x, const T* w, const T* b, T* y, const DepthwiseShape& s, cudaStream_t stream) {
  if (s.kernel_w == 3 && s.stride == 1) return launch<T, V, 3, 1>(x, w, b, y, s, stream);
  if (s.kernel_w == 3 && s.stride == 2) return launch<T, V, 3, 2>(x, w, b, y, s, stream);
  if (s.kernel_w == 5 && s.stride == 1) return launch<T, V, 5, 1>(x, w, b, y, s, stream);
  if (s.kernel_w == 5 && s.stride == 2) return launch<T, V, 5, 2>(x, w, b, y, s, stream);
  launch<T, V, 0, 0>(x, w, b, y, s, stream);
}

}  // namespace
}  // namespace ops

using namespace ops;

int ops_cuda_depthwise(int dtype, double low, double high, const void* x, const void* w, const void* b, void* y,
                       const int64_t* sizes, void* stream) {
  for (int i = 2; i < 7; ++i) {
    if (sizes[i] < 1 || sizes[i] >= 1 << 20) return cudaErrorInvalidValue;
  }
  DepthwiseShape s;
  s.samples = sizes[0], s.channels = sizes[1], s.low = low, s.high = high, s.stride = int(sizes[6]);
  s.in_h = int(sizes[2]), s.in_w = int(sizes[3]), s.kernel_h = int(sizes[4]), s.kernel_w = int(sizes[5]);
  s.out_h = same_size(s.in_h, s.stride), s.out_w = same_size(s.in_w, s.stride);
  s.pad_y = same_padding(s.in_h, s.kernel_h, s.stride), s.pad_x = same_padding(s.in_w, s.kernel_w, s.stride);
  if (s.samples * s.channels == 0) return 0;
  return with_dtype(dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    constexpr int full = 16 / sizeof(T);
    const T *xt = static_cast<const T*>(x), *wt = static_cast<const T*>(w), *bt = static_cast<const T*>(b);
    T* yt = static_cast<T*>(y);
    const auto st = static_cast<cudaStream_t>(stream);
    if (s.channels % full == 0 && aligned16(x) && aligned16(w) && aligned16(b) && aligned16(y)) {
      launch_size<T, full>(xt, wt, bt, yt, s, st);
    } else {
      launch_size<T, 1>(xt, wt, bt, yt, s, st);
    }
  });
}
