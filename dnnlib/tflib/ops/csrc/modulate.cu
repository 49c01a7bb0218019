// Modulation of convolution weights on GPUs.
#include "cuda_modulate.cuh"

namespace ops {
namespace {

constexpr int kTile = 8;         // outputs of a block of the demodulation
constexpr int kHeld = 1024;      // inputs whose squares it holds
constexpr int kDemodThreads = 1024;
constexpr int kShareBlocks = 256;  // with less of them samples are shared: enough for the card, few loads of weights

// squares[o / 4, i, o % 4] = sum over taps of w^2, for inputs from `first` on and outputs of the block: neighbouring
// threads of a warp that read 16 bytes of neighbouring inputs meet in no bank.
template <typename T, int V>
__device__ __forceinline__ void fill_squares(const T* w, float* squares, const Sizes& m, int64_t first, int count) {
  constexpr int kParts = kTile / V;
  const int part = threadIdx.x % kParts * V;
  const int64_t o = int64_t(blockIdx.x) * kTile + part, step = m.in * m.out;
  for (int i = threadIdx.x / kParts; i < count; i += kDemodThreads / kParts) {
    float sum[V];
#pragma unroll
    for (int j = 0; j < V; ++j) sum[j] = 0;
    if (o < m.out) {
      const T* from = w + (first + i) * m.out + o;
#pragma unroll 9
      for (int64_t t = 0; t < m.taps; ++t, from += step) {
        float v[V];
        load<T, V>(from, v);
#pragma unroll
        for (int j = 0; j < V; ++j) sum[j] += v[j] * v[j];
      }
    }
    store<float, V>(squares + (part / 4 * kHeld + i) * 4 + part % 4, sum);
  }
}

// d[n, o] of kTile outputs and of `share` samples; grid (tiles of outputs, shares of the samples). A warp takes a
// slice of the inputs of one sample.
template <typename T, int V>
__global__ void __launch_bounds__(kDemodThreads)
    demodulation_kernel(const T* __restrict__ w, const T* __restrict__ s, float* d, Sizes m, int64_t share, float eps) {
  constexpr int kWarps = kDemodThreads / 32;
  __shared__ float4 held[kTile / 4 * kHeld];
  __shared__ float parts[kWarps * kTile];
  float* squares = reinterpret_cast<float*>(held);
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
        fill_squares<T, V>(w, squares, m, first, count);
        __syncthreads();
      }
      if (warp / slices >= at_once || k >= end) continue;
#pragma unroll 4
      for (int i = slice * 32 + lane; i < count; i += slices * 32) {
        const float style = widen(s[k * m.in + first + i]), square = style * style;
        float v[kTile];
        load_floats<4>(squares + i * 4, v);
        load_floats<4>(squares + (kHeld + i) * 4, v + 4);
#pragma unroll
        for (int j = 0; j < kTile; ++j) sum[j] += square * v[j];
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
      d[n * m.out + o] = 1.0f / sqrtf(total + eps);
    }
    __syncthreads();
  }
}

// A thread takes V neighbouring outputs of one input, and every gridDim.y-th sample.
template <typename T, int V, int Taps>
__global__ void __launch_bounds__(kThreads)
    modulate_kernel(const T* __restrict__ w, const T* __restrict__ s, const float* __restrict__ d, T* __restrict__ y,
                    Sizes m, Steps step) {
  const uint32_t per_row = uint32_t(m.out / V), idx = blockIdx.x * kThreads + threadIdx.x;
  const uint32_t i = idx / per_row, o = (idx - i * per_row) * V;
  if (i >= m.in) return;
  const int64_t tap = m.in * m.out;
  for (int64_t first = 0; first < m.taps; first += Taps) {
    float weight[Taps][V];
    const T* from = w + first * tap + int64_t(i) * m.out + o;
#pragma unroll
    for (int t = 0; t < Taps; ++t) load<T, V>(from + t * tap, weight[t]);
    T* to = y + first * step.tap + i * step.in + o + blockIdx.y * step.sample;
#pragma unroll 2
    for (int64_t k = blockIdx.y; k < m.samples; k += gridDim.y, to += gridDim.y * step.sample) {
      const float style = widen(s[k * m.in + i]);
      float factor[V];
#pragma unroll
      for (int j = 0; j < V; ++j) factor[j] = 1;
      if (d) load_floats<V>(d + k * m.out + o, factor);
#pragma unroll
      for (int j = 0; j < V; ++j) factor[j] *= style;
      T* row = to;
#pragma unroll
      for (int t = 0; t < Taps; ++t, row += step.tap) {
        float v[V];
#pragma unroll
        for (int j = 0; j < V; ++j) v[j] = weight[t][j] * factor[j];
        store_global<T, V>(row, v);
      }
    }
  }
}

}  // namespace
}  // namespace ops

using namespace ops;

int64_t ops_cuda_demodulation_workspace(const int64_t*) { return 1; }  // nothing is kept between blocks

int ops_cuda_demodulation(int dtype, double eps, const void* w, const void* s, float* d, float*, const int64_t* sizes,
                          void* stream) {
  const Sizes m = make_sizes(sizes);
  const auto st = static_cast<cudaStream_t>(stream);
  if (m.samples * m.out == 0) return 0;
  // Samples are shared among more blocks where outputs are few; each reads the weights again.
  const int64_t tiles = ceil_div(m.out, kTile), most = std::max<int64_t>(132 / tiles, 1);
  const int64_t share = ceil_div(m.samples, std::clamp<int64_t>(ceil_div(m.samples, 16), 1, most));
  const dim3 grid(unsigned(tiles), unsigned(ceil_div(m.samples, share)));
  return with_dtype(dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const T *wt = static_cast<const T*>(w), *styles = static_cast<const T*>(s);
    if (m.out % kVector == 0 && aligned16(w)) {
      demodulation_kernel<T, kVector><<<grid, kDemodThreads, 0, st>>>(wt, styles, d, m, share, float(eps));
    } else {
      demodulation_kernel<T, 1><<<grid, kDemodThreads, 0, st>>>(wt, styles, d, m, share, float(eps));
    }
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
    with_taps(m, {w, y, d}, [&](auto length, auto taps) {
      const int64_t blocks = ceil_div(m.in * m.out / length.value, kThreads);
      const int64_t shares = std::clamp<int64_t>(kShareBlocks / blocks, 1, std::min<int64_t>(m.samples, 65535));
      const dim3 grid{unsigned(blocks), unsigned(shares)};
      modulate_kernel<T, length.value, taps.value><<<grid, kThreads, 0, st>>>(
          static_cast<const T*>(w), static_cast<const T*>(s), d, static_cast<T*>(y), m, make_steps(m, grouped));
    });
  });
}
