// Demodulation factors of convolution weights on GPUs, and the forms that their derivatives are made of.
#include "cuda_modulate.cuh"

namespace ops {
namespace {

constexpr int kTile = 8;         // outputs of a block of the demodulation
constexpr int kHeld = 1024;      // inputs whose sums over the taps it holds
constexpr int kDemodThreads = 1024;

// Adds w1 * w2 (Pair) or w1^2 of all taps to V sums; taps lie `step` apart.
template <typename T, int V, bool Pair>
__device__ __forceinline__ void add_taps(const T* w1, const T* w2, int64_t taps, int64_t step, float* sum) {
  int64_t at = 0;
#pragma unroll 9
  for (int64_t t = 0; t < taps; ++t, at += step) {
    float a[V], b[V];
    load<T, V>(w1 + at, a);
    if (Pair) load<T, V>(w2 + at, b);
#pragma unroll
    for (int j = 0; j < V; ++j) sum[j] += a[j] * (Pair ? b[j] : a[j]);
  }
}

// sums[o / 4, i, o % 4]: add_taps() for inputs from `first` on and outputs of the block. Neighbouring threads of a warp
// that read 16 bytes of neighbouring inputs meet in no bank.
template <typename T, int V, bool Energy>
__device__ __forceinline__ void fill_sums(const T* w1, const T* w2, float* sums, const Sizes& m, int64_t first,
                                          int count) {
  constexpr int kParts = kTile / V;
  const int part = threadIdx.x % kParts * V;
  const int64_t o = int64_t(blockIdx.x) * kTile + part, step = m.in * m.out;
  for (int i = threadIdx.x / kParts; i < count; i += kDemodThreads / kParts) {
    float sum[V];
#pragma unroll
    for (int j = 0; j < V; ++j) sum[j] = 0;
    if (o < m.out) {
      const int64_t at = (first + i) * m.out + o;
      add_taps<T, V, Energy>(w1 + at, w2 + at, m.taps, step, sum);
    }
    store<float, V>(sums + (part / 4 * kHeld + i) * 4 + part % 4, sum);
  }
}

// Energy: e[n, o] = sum over t, i of w1 * w2 * s1 * s2; else 1 / sqrt(sum of (w1 * s1)^2 + eps). A block takes kTile
// outputs and `share` samples, a warp of it a slice of the inputs of one sample; grid (tiles, shares of the samples).
template <typename T, int V, bool Energy>
__global__ void __launch_bounds__(kDemodThreads)
    energy_kernel(const T* __restrict__ w1, const T* __restrict__ w2, const T* __restrict__ s1,
                  const T* __restrict__ s2, float* __restrict__ e, Sizes m, int64_t share, float eps) {
  constexpr int kWarps = kDemodThreads / 32;
  __shared__ float4 held[kTile / 4 * kHeld];
  __shared__ float parts[kWarps * kTile];
  float* sums = reinterpret_cast<float*>(held);
  const int64_t begin = blockIdx.y * share, end = begin + share < m.samples ? begin + share : m.samples;
  const int slices = end - begin >= kWarps ? 1 : kWarps / int(end - begin), at_once = kWarps / slices;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, slice = warp % slices;
  for (int64_t base = begin; base < end; base += at_once) {
    const int64_t k = base + warp / slices;
    float sum[kTile];
#pragma unroll
    for (int j = 0; j < kTile; ++j) sum[j] = 0;
    for (int64_t first = 0; first < m.in; first += kHeld) {
      const int count = int(m.in - first < kHeld ? m.in - first : kHeld);
      if (base == begin || m.in > kHeld) {
        __syncthreads();
        fill_sums<T, V, Energy>(w1, w2, sums, m, first, count);
        __syncthreads();
      }
      if (warp / slices >= at_once || k >= end) continue;
#pragma unroll 4
      for (int i = slice * 32 + lane; i < count; i += slices * 32) {
        const int64_t at = k * m.in + first + i;
        const float style = widen(s1[at]), both = style * (Energy ? widen(s2[at]) : style);
        float v[kTile];
        load_floats<4>(sums + i * 4, v);
        load_floats<4>(sums + (kHeld + i) * 4, v + 4);
#pragma unroll
        for (int j = 0; j < kTile; ++j) sum[j] += both * v[j];
      }
    }
    float one = scatter_sum<kTile>(sum, lane, 16);  // of output lane / 4
    for (int bit = 2; bit > 0; bit >>= 1) one += __shfl_xor_sync(0xffffffffu, one, bit);
    if (lane % 4 == 0) parts[warp * kTile + lane / 4] = one;
    __syncthreads();
    const int64_t n = base + threadIdx.x / kTile, o = int64_t(blockIdx.x) * kTile + threadIdx.x % kTile;
    if (threadIdx.x < at_once * kTile && n < end && o < m.out) {
      float total = 0;
      for (int p = 0; p < slices; ++p) {
        total += parts[(threadIdx.x / kTile * slices + p) * kTile + threadIdx.x % kTile];
      }
      e[n * m.out + o] = Energy ? total : 1.0f / sqrtf(total + eps);
    }
    __syncthreads();
  }
}

// dw[t, i, o] = w[t, i, o] * the sum over n of g[n, o] * s1[n, i] * s2[n, i]. A thread takes V neighbouring outputs of
// one input.
template <typename T, int V>
__global__ void __launch_bounds__(kThreads)
    energy_weights_kernel(const float* __restrict__ g, const T* __restrict__ w, const T* __restrict__ s1,
                          const T* __restrict__ s2, T* __restrict__ dw, Sizes m) {
  const int64_t per_row = m.out / V, idx = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t i = idx / per_row, o = (idx - i * per_row) * V, tap = m.in * m.out;
  if (i >= m.in) return;
  float factor[V];
#pragma unroll
  for (int j = 0; j < V; ++j) factor[j] = 0;
#pragma unroll 4
  for (int64_t n = 0; n < m.samples; ++n) {
    const float both = widen(s1[n * m.in + i]) * widen(s2[n * m.in + i]);
    float v[V];
    load_floats<V>(g + n * m.out + o, v);
#pragma unroll
    for (int j = 0; j < V; ++j) factor[j] += v[j] * both;
  }
  int64_t at = i * m.out + o;
#pragma unroll 9
  for (int64_t t = 0; t < m.taps; ++t, at += tap) {
    float v[V];
    load<T, V>(w + at, v);
#pragma unroll
    for (int j = 0; j < V; ++j) v[j] *= factor[j];
    store_global<T, V>(dw + at, v);
  }
}

// ds[n, i] = s[n, i] * the sum over t, o of g[n, o] * w1 * w2. A block takes one input: its sums over the taps, of
// kHeldOut outputs at a time, and with these a warp every kWarps-th sample.
constexpr int kHeldOut = 1024, kStylesThreads = 128, kWarps = kStylesThreads / 32;

template <typename T, int V>
__global__ void __launch_bounds__(kStylesThreads)
    energy_styles_kernel(const float* __restrict__ g, const T* __restrict__ w1, const T* __restrict__ w2,
                         const T* __restrict__ s, T* __restrict__ ds, Sizes m) {
  __shared__ float4 held[kHeldOut / 4];
  float* sums = reinterpret_cast<float*>(held);
  const int64_t i = blockIdx.x, tap = m.in * m.out;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  for (int64_t base = 0; base < m.samples; base += kWarps) {
    const int64_t n = base + warp;
    float sum = 0;
    for (int64_t first = 0; first < m.out; first += kHeldOut) {
      const int count = int(m.out - first < kHeldOut ? m.out - first : kHeldOut);
      if (base == 0 || m.out > kHeldOut) {
        __syncthreads();
        for (int o = threadIdx.x * V; o < count; o += kStylesThreads * V) {
          float of_taps[V];
#pragma unroll
          for (int j = 0; j < V; ++j) of_taps[j] = 0;
          const int64_t at = i * m.out + first + o;
          add_taps<T, V, true>(w1 + at, w2 + at, m.taps, tap, of_taps);
          store<float, V>(sums + o, of_taps);
        }
        __syncthreads();
      }
      if (n >= m.samples) continue;
      for (int o = lane; o < count; o += 32) sum += g[n * m.out + first + o] * sums[o];
    }
    for (int bit = 16; bit > 0; bit >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, bit);
    if (lane == 0 && n < m.samples) ds[n * m.in + i] = narrow<T, float>(widen(s[n * m.in + i]) * sum);
  }
}

}  // namespace
}  // namespace ops

using namespace ops;

namespace {

template <bool Energy>
int launch_energy(int dtype, float eps, const void* w1, const void* w2, const void* s1, const void* s2, float* e,
                  const int64_t* sizes, void* stream) {
  const Sizes m = make_sizes(sizes);
  const auto st = static_cast<cudaStream_t>(stream);
  if (m.samples * m.out == 0) return 0;
  // Samples are shared among more blocks where outputs are few; each reads the weights again.
  const int64_t tiles = ceil_div(m.out, kTile), most = std::max<int64_t>(132 / tiles, 1);
  const int64_t share = ceil_div(m.samples, std::clamp<int64_t>(ceil_div(m.samples, 16), 1, most));
  const dim3 grid(unsigned(tiles), unsigned(ceil_div(m.samples, share)));
  return with_dtype(dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    with_length(m, {w1, w2}, [&](auto length) {
      energy_kernel<T, length.value, Energy><<<grid, kDemodThreads, 0, st>>>(
          static_cast<const T*>(w1), static_cast<const T*>(w2), static_cast<const T*>(s1), static_cast<const T*>(s2), e,
          m, share, eps);
    });
  });
}

}  // namespace

int64_t ops_cuda_demodulation_workspace(const int64_t*) { return 1; }  // nothing is kept between blocks

int ops_cuda_demodulation(int dtype, double eps, const void* w, const void* s, float* d, float*, const int64_t* sizes,
                          void* stream) {
  return launch_energy<false>(dtype, float(eps), w, w, s, s, d, sizes, stream);
}

int ops_cuda_energy(int dtype, const void* w1, const void* w2, const void* s1, const void* s2, float* e,
                    const int64_t* sizes, void* stream) {
  return launch_energy<true>(dtype, 0, w1, w2, s1, s2, e, sizes, stream);
}

int ops_cuda_energy_weights(int dtype, const float* g, const void* w, const void* s1, const void* s2, void* dw,
                            const int64_t* sizes, void* stream) {
  const Sizes m = make_sizes(sizes);
  const auto st = static_cast<cudaStream_t>(stream);
  if (m.taps * m.in * m.out == 0) return 0;
  return with_dtype(dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    with_length(m, {g, w, dw}, [&](auto length) {
      const int64_t blocks = ceil_div(m.in * (m.out / length.value), kThreads);
      energy_weights_kernel<T, length.value><<<unsigned(blocks), kThreads, 0, st>>>(
          g, static_cast<const T*>(w), static_cast<const T*>(s1), static_cast<const T*>(s2), static_cast<T*>(dw), m);
    });
  });
}

int ops_cuda_energy_styles(int dtype, const float* g, const void* w1, const void* w2, const void* s, void* ds,
                           const int64_t* sizes, void* stream) {
  const Sizes m = make_sizes(sizes);
  const auto st = static_cast<cudaStream_t>(stream);
  if (m.samples * m.in == 0) return 0;
  return with_dtype(dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    with_length(m, {w1, w2}, [&](auto length) {
      energy_styles_kernel<T, length.value><<<unsigned(m.in), kStylesThreads, 0, st>>>(
          g, static_cast<const T*>(w1), static_cast<const T*>(w2), static_cast<const T*>(s), static_cast<T*>(ds), m);
    });
  });
}
