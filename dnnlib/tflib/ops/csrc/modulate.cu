// Modulation of convolution weights on GPUs.
#include "cuda_modulate.cuh"

namespace ops {
namespace {

constexpr int kShareBlocks = 256;  // with less of them samples are shared: enough for the card, few loads of weights

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
