// Modulation of convolution weights on GPUs.
#include "cuda_sums.cuh"

namespace ops {
namespace {

struct Sizes {
  int64_t samples, taps, in, out;
};

// squares[i, o] = sum over taps of w^2
template <typename T>
__global__ void __launch_bounds__(kThreads) squares_kernel(const T* w, float* squares, Sizes m) {
  const int64_t n = m.in * m.out;
  for (int64_t i = blockIdx.x * int64_t(kThreads) + threadIdx.x; i < n; i += gridDim.x * int64_t(kThreads)) {
    float sum = 0;
    for (int64_t t = 0; t < m.taps; ++t) {
      const float v = widen(w[t * n + i]);
      sum += v * v;
    }
    squares[i] = sum;
  }
}

constexpr int kSlices = 32;  // of the inputs, whose sums a block adds up

// sum over i of value(i) for output o of thread (x, y), valid where threadIdx.y is 0; block (32 outputs, kSlices).
template <typename F>
__device__ __forceinline__ float slice_sum(int64_t count, F&& value) {
  __shared__ float parts[kSlices][33];
  float sum = 0;
#pragma unroll 4
  for (int64_t i = threadIdx.y; i < count; i += kSlices) sum += value(i);
  parts[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0) return 0;
  float total = 0;
  for (int k = 0; k < kSlices; ++k) total += parts[k][threadIdx.x];
  return total;
}

// d[n, o]; grid (outputs / 32, samples).
template <typename T>
__global__ void __launch_bounds__(32 * kSlices)
    demodulation_kernel(const T* s, const float* squares, float* d, Sizes m, float eps) {
  const int64_t o = blockIdx.x * 32 + threadIdx.x, n = blockIdx.y;
  const float total = slice_sum(o < m.out ? m.in : 0, [&](int64_t i) {
    const float style = widen(s[n * m.in + i]);
    return style * style * squares[i * m.out + o];
  });
  if (threadIdx.y == 0 && o < m.out) d[n * m.out + o] = 1.0f / sqrtf(total + eps);
}

__device__ __forceinline__ int64_t offset(const Sizes& m, int grouped, int64_t n, int64_t row) {
  return grouped ? (row * m.samples + n) * m.out : (n * m.taps * m.in + row) * m.out;
}

// A thread takes V neighbouring outputs of one row of w; blockIdx.y is the sample.
template <typename T, int V>
__global__ void __launch_bounds__(kThreads)
    modulate_kernel(const T* w, const T* s, const float* d, T* y, Sizes m, int grouped) {
  const uint32_t per_row = uint32_t(m.out / V), n = uint32_t(m.taps * m.in * per_row), in = uint32_t(m.in);
  for (uint32_t i = blockIdx.x * kThreads + threadIdx.x; i < n; i += gridDim.x * kThreads) {
    const uint32_t row = i / per_row, o = (i - row * per_row) * V;
    float weight[V];
    load<T, V>(w + int64_t(i) * V, weight);
    for (int64_t k = blockIdx.y; k < m.samples; k += gridDim.y) {
      const float style = widen(s[k * m.in + row % in]);
      float v[V];
#pragma unroll
      for (int j = 0; j < V; ++j) v[j] = 1;
      if (d) load_floats<V>(d + k * m.out + o, v);
#pragma unroll
      for (int j = 0; j < V; ++j) v[j] *= weight[j] * style;
      store<T, V>(y + offset(m, grouped, k, row) + o, v);
    }
  }
}

// A thread takes one (input, output): dw of all taps, and product[n, i, o] = sum over taps of dy * w.
template <typename T, int Taps>
__global__ void __launch_bounds__(kThreads)
    modulate_grad_kernel(const T* dy, const T* w, const T* s, const float* d, T* dw, float* product, Sizes m,
                         int grouped) {
  const int64_t n = m.in * m.out;
  for (int64_t idx = blockIdx.x * int64_t(kThreads) + threadIdx.x; idx < n; idx += gridDim.x * int64_t(kThreads)) {
    const int64_t i = uint32_t(idx) / uint32_t(m.out), o = idx - i * m.out;
    float weight[Taps], sum[Taps];
    // Filters larger than Taps go in pieces; the product is carried on in memory.
    for (int64_t first = 0; first < m.taps; first += Taps) {
      const int64_t count = m.taps - first < Taps ? m.taps - first : Taps;
#pragma unroll
      for (int t = 0; t < Taps; ++t) {
        weight[t] = t < count ? widen(w[(first + t) * n + idx]) : 0.0f;
        sum[t] = 0;
      }
      for (int64_t k = 0; k < m.samples; ++k) {
        const float factor = widen(s[k * m.in + i]) * (d ? d[k * m.out + o] : 1.0f);
        float total = first ? product[k * n + idx] : 0.0f;
#pragma unroll
        for (int t = 0; t < Taps; ++t) {
          if (t < count) {
            const float g = widen(dy[offset(m, grouped, k, (first + t) * m.in + i) + o]);
            total += g * weight[t];
            sum[t] += g * factor;
          }
        }
        product[k * n + idx] = total;
      }
#pragma unroll
      for (int t = 0; t < Taps; ++t) {
        if (t < count) dw[(first + t) * n + idx] = narrow<T, float>(sum[t]);
      }
    }
  }
}

// ds[n, i] = sum over o of product * d; a block takes one (n, i).
template <typename T>
__global__ void ds_kernel(const float* product, const float* d, T* ds, Sizes m) {
  const int64_t n = blockIdx.x / m.in;
  float sum = 0;
  for (int64_t o = threadIdx.x; o < m.out; o += blockDim.x) {
    sum += product[blockIdx.x * m.out + o] * (d ? d[n * m.out + o] : 1.0f);
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) ds[blockIdx.x] = narrow<T, float>(sum);
}

// dd[n, o] = sum over i of product * s; blocks as in demodulation_kernel.
template <typename T>
__global__ void __launch_bounds__(32 * kSlices) dd_kernel(const float* product, const T* s, float* dd, Sizes m) {
  const int64_t o = blockIdx.x * 32 + threadIdx.x, n = blockIdx.y;
  const float total = slice_sum(o < m.out ? m.in : 0, [&](int64_t i) {
    return product[(n * m.in + i) * m.out + o] * widen(s[n * m.in + i]);
  });
  if (threadIdx.y == 0 && o < m.out) dd[n * m.out + o] = total;
}

Sizes make_sizes(const int64_t* sizes) { return {sizes[0], sizes[1], sizes[2], sizes[3]}; }

dim3 output_grid(const Sizes& m) { return dim3(unsigned(ceil_div(m.out, 32)), unsigned(m.samples)); }

}  // namespace
}  // namespace ops

using namespace ops;

int64_t ops_cuda_demodulation_workspace(const int64_t* sizes) { return std::max<int64_t>(sizes[2] * sizes[3], 1); }

int ops_cuda_demodulation(int dtype, double eps, const void* w, const void* s, float* d, float* workspace,
                          const int64_t* sizes, void* stream) {
  const Sizes m = make_sizes(sizes);
  const auto st = static_cast<cudaStream_t>(stream);
  if (m.samples * m.out == 0) return 0;
  return with_dtype(dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    squares_kernel<<<grid_for(m.in * m.out), kThreads, 0, st>>>(static_cast<const T*>(w), workspace, m);
    demodulation_kernel<<<output_grid(m), dim3(32, kSlices), 0, st>>>(static_cast<const T*>(s), workspace, d, m,
                                                                      float(eps));
  });
}

int ops_cuda_modulate(int dtype, const void* w, const void* s, const float* d, void* y, const int64_t* sizes,
                      int grouped, void* stream) {
  const Sizes m = make_sizes(sizes);
  const auto st = static_cast<cudaStream_t>(stream);
  const int64_t n = m.taps * m.in * m.out;
  if (n * m.samples == 0) return 0;
  if (n >= int64_t(1) << 31) return cudaErrorInvalidValue;
  return with_dtype(dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    constexpr int full = 16 / sizeof(T);
    const T *wt = static_cast<const T*>(w), *styles = static_cast<const T*>(s);
    const unsigned samples = unsigned(std::min<int64_t>(m.samples, 65535));
    if (m.out % full == 0 && aligned16(w) && aligned16(y) && aligned16(d)) {
      modulate_kernel<T, full><<<dim3(grid_for(n / full), samples), kThreads, 0, st>>>(
          wt, styles, d, static_cast<T*>(y), m, grouped);
    } else {
      modulate_kernel<T, 1><<<dim3(grid_for(n), samples), kThreads, 0, st>>>(
          wt, styles, d, static_cast<T*>(y), m, grouped);
    }
  });
}

int64_t ops_cuda_modulate_grad_workspace(const int64_t* sizes) {
  return std::max<int64_t>(sizes[0] * sizes[2] * sizes[3], 1);
}

int ops_cuda_modulate_grad(int dtype, const void* dy, const void* w, const void* s, const float* d, void* dw, void* ds,
                           float* dd, float* workspace, const int64_t* sizes, int grouped, void* stream) {
  const Sizes m = make_sizes(sizes);
  const auto st = static_cast<cudaStream_t>(stream);
  return with_dtype(dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const T *g = static_cast<const T*>(dy), *wt = static_cast<const T*>(w), *styles = static_cast<const T*>(s);
    if (m.in * m.out * m.taps > 0) {
      const unsigned grid = grid_for(m.in * m.out);
      if (m.taps == 1) {
        modulate_grad_kernel<T, 1>
            <<<grid, kThreads, 0, st>>>(g, wt, styles, d, static_cast<T*>(dw), workspace, m, grouped);
      } else {
        modulate_grad_kernel<T, 9>
            <<<grid, kThreads, 0, st>>>(g, wt, styles, d, static_cast<T*>(dw), workspace, m, grouped);
      }
    }
    if (m.samples * m.in > 0) {
      ds_kernel<<<unsigned(m.samples * m.in), 128, 0, st>>>(workspace, d, static_cast<T*>(ds), m);
    }
    if (dd && m.samples * m.out > 0) dd_kernel<<<output_grid(m), dim3(32, kSlices), 0, st>>>(workspace, styles, dd, m);
  });
}
