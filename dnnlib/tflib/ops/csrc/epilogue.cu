// Demodulation, noise, bias, activation and clamp after a convolution, on GPUs.
#include "cuda_epilogue.cuh"

namespace ops {
namespace {

// channels_last: V channels of one pixel; else V pixels of one channel.
template <int Code, typename T, int V, bool Last, typename Index>
__global__ void __launch_bounds__(kThreads)
    epilogue_kernel(const T* __restrict__ x, const float* __restrict__ scale, const T* __restrict__ noise,
                    const float* __restrict__ strength, const float* __restrict__ b, T* __restrict__ y,
                    Sizes e, int64_t vectors, CudaAct a) {
  const float factor = noise ? *strength : 0.0f;
  const Index channels = Index(e.channels), pixels = Index(e.pixels);
#pragma unroll 2
  for (int64_t i = blockIdx.x * int64_t(kThreads) + threadIdx.x; i < vectors; i += gridDim.x * int64_t(kThreads)) {
    const Index index = Index(i * V);
    float v[V];
    load<T, V>(x + index, v);
    if (Last) {
      const Index pixel = index / channels, c = index - pixel * channels, n = pixel / pixels;
      const float extra = noise ? widen(noise[e.noise_samples == 1 ? pixel - n * pixels : pixel]) * factor : 0.0f;
      float by[V], bias[V];
#pragma unroll
      for (int j = 0; j < V; ++j) by[j] = 1, bias[j] = 0;
      if (scale) load_floats<V>(scale + n * channels + c, by);
      if (b) load_floats<V>(b + c, bias);
#pragma unroll
      for (int j = 0; j < V; ++j) v[j] = v[j] * by[j] + (extra + bias[j]);
    } else {
      const Index plane = index / pixels, pixel = index - plane * pixels, n = plane / channels;
      const float one = scale ? scale[plane] : 1.0f, bias = b ? b[plane - n * channels] : 0.0f;
      float extra[V];
#pragma unroll
      for (int j = 0; j < V; ++j) extra[j] = 0;
      if (noise) load<T, V>(noise + (e.noise_samples == 1 ? 0 : n) * pixels + pixel, extra);
#pragma unroll
      for (int j = 0; j < V; ++j) v[j] = v[j] * one + (extra[j] * factor + bias);
    }
#pragma unroll
    for (int j = 0; j < V; ++j) v[j] = cuda_value<Code>(v[j], a);
    store<T, V>(y + index, v);
  }
}

}  // namespace
}  // namespace ops

using namespace ops;

int ops_cuda_epilogue(int dtype, int act, double alpha, double gain, double clamp, const void* x, const float* scale,
                      const void* noise, const float* strength, const float* b, void* y, const int64_t* sizes,
                      int channels_last, void* stream) {
  const Sizes e = make_sizes(sizes);
  const int64_t n = e.samples * e.channels * e.pixels;
  const ActParams p = make_act(act, 0, false, alpha, gain, clamp);
  if (n == 0) return 0;
  return with_dtype(dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    constexpr int full = 16 / sizeof(T);
    const auto run = [&](auto code, auto length, auto last) {
      constexpr int V = length.value;
      with_index(n, [&](auto index) {
        epilogue_kernel<code.value, T, V, last.value, decltype(index)>
            <<<grid_for(n / V), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
                static_cast<const T*>(x), scale, static_cast<const T*>(noise), strength, b, static_cast<T*>(y), e,
                n / V, cuda_act(p));
      });
    };
    const bool vectors =
        channels_last ? vectors_fit<T>(e, true, {x, y, scale, b}) : vectors_fit<T>(e, false, {x, y, noise});
    with_cuda_act(act, [&](auto code) {
      if (channels_last) {
        vectors ? run(code, std::integral_constant<int, full>(), std::true_type())
                : run(code, std::integral_constant<int, 1>(), std::true_type());
      } else {
        vectors ? run(code, std::integral_constant<int, full>(), std::false_type())
                : run(code, std::integral_constant<int, 1>(), std::false_type());
      }
    });
  });
}
