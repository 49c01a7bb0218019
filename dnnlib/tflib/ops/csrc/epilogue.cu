// Demodulation, noise, bias, activation and clamp after a convolution, on GPUs.
#include "cuda_epilogue.cuh"

namespace ops {
namespace {

// Channels last: V channels of one pixel.
template <int Code, typename T, int V, typename Index>
__global__ void __launch_bounds__(kThreads)
    epilogue_pixels_kernel(const T* __restrict__ x, const float* __restrict__ scale, const T* __restrict__ noise,
                           const float* __restrict__ strength, const float* __restrict__ b, T* __restrict__ y,
                           Sizes e, int64_t vectors, CudaAct a) {
  const float factor = noise ? *strength : 0.0f;
  const Index channels = Index(e.channels), pixels = Index(e.pixels);
#pragma unroll 2
  for (int64_t i = blockIdx.x * int64_t(kThreads) + threadIdx.x; i < vectors; i += gridDim.x * int64_t(kThreads)) {
    const Index index = Index(i * V);
    float v[V];
    load<T, V>(x + index, v);
    const Index pixel = index / channels, c = index - pixel * channels, n = pixel / pixels;
    const float extra = noise ? widen(noise[e.noise_samples == 1 ? pixel - n * pixels : pixel]) * factor : 0.0f;
    float by[V], bias[V];
#pragma unroll
    for (int j = 0; j < V; ++j) by[j] = 1, bias[j] = 0;
    if (scale) load_floats<V>(scale + n * channels + c, by);
    if (b) load_floats<V>(b + c, bias);
#pragma unroll
    for (int j = 0; j < V; ++j) v[j] = cuda_value<Code>(v[j] * by[j] + (extra + bias[j]), a);
    store<T, V>(y + index, v);
  }
}

constexpr int kMostChannels = 8, kAtOnce = 2;  // of a thread, in planes; those loaded while the last ones are computed
constexpr int64_t kEnoughThreads = 132 * 1024;  // with kAtOnce vectors on the way to each they keep any card busy

// How planes are cut: a thread takes V pixels of `channels` channels, whose noise it keeps. Blocks are (pixels, groups
// of channels) and follow one another along groups first: what they read of the noise is still in the cache.
struct PlanesCut {
  int64_t channels, groups, chunks;  // chunks: blocks that a plane is long
  dim3 block;
  int64_t blocks;
};

PlanesCut cut_planes(const Sizes& e, int64_t vectors_of_plane) {
  const int64_t planes = e.samples * e.channels;
  int64_t channels = std::min<int64_t>(kMostChannels, e.channels);
  while (channels > 1 && planes * vectors_of_plane / channels < kEnoughThreads) channels = (channels + 1) / 2;
  PlanesCut cut;
  cut.groups = ceil_div(e.channels, channels);
  cut.channels = ceil_div(e.channels, cut.groups);  // of nearly equal groups
  const int width = block_width(vectors_of_plane);
  cut.chunks = ceil_div(vectors_of_plane, width);
  cut.block = dim3(width, kThreads / width);  // several groups where one is shorter than a block, and chunks == 1
  cut.blocks = ceil_div(e.samples * cut.chunks * cut.groups, kThreads / width);
  return cut;
}

template <int Code, typename T, int V, typename Index>
__global__ void __launch_bounds__(kThreads)
    epilogue_planes_kernel(const T* __restrict__ x, const float* __restrict__ scale, const T* __restrict__ noise,
                           const float* __restrict__ strength, const float* __restrict__ b, T* __restrict__ y,
                           Sizes e, PlanesCut cut, CudaAct a) {
  const Index unit = Index(blockIdx.x) * blockDim.y + threadIdx.y, groups = Index(cut.groups);
  const Index row = unit / groups, n = row / Index(cut.chunks);
  const Index pixel = ((row - n * Index(cut.chunks)) * blockDim.x + threadIdx.x) * V;
  if (n >= Index(e.samples) || pixel >= Index(e.pixels)) return;
  const int64_t c = (unit - row * groups) * cut.channels, plane = int64_t(n) * e.channels + c;
  const int count = int(c + cut.channels < e.channels ? cut.channels : e.channels - c);
  const int64_t start = plane * e.pixels + pixel;
  const T* from = x + start;
  T* to = y + start;
  const float *scales = scale ? scale + plane : nullptr, *biases = b ? b + c : nullptr;
  Row<T, V> rows[kAtOnce] = {};
  float by[kAtOnce], bias[kAtOnce], extra[V];
#pragma unroll
  for (int k = 0; k < kAtOnce; ++k) by[k] = 1, bias[k] = 0;
  const auto fetch = [&](int first) {
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k, from += e.pixels) {
      if (first + k >= count) continue;
      if (scales) by[k] = scales[first + k];
      if (biases) bias[k] = biases[first + k];
      rows[k] = load_row<T, V>(from);
    }
  };
  fetch(0);
#pragma unroll
  for (int j = 0; j < V; ++j) extra[j] = 0;
  if (noise) {
    load<T, V>(noise + (e.noise_samples == 1 ? 0 : int64_t(n) * e.pixels) + pixel, extra);
    const float factor = *strength;
#pragma unroll
    for (int j = 0; j < V; ++j) extra[j] *= factor;
  }
#pragma unroll 1
  for (int first = 0; first < count; first += kAtOnce) {
    Row<T, V> now[kAtOnce];
    float by_now[kAtOnce], bias_now[kAtOnce];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) now[k] = rows[k], by_now[k] = by[k], bias_now[k] = bias[k];
    fetch(first + kAtOnce);
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k, to += e.pixels) {
      if (first + k >= count) continue;
      float v[V];
      widen_row<T, V>(now[k], v);
#pragma unroll
      for (int j = 0; j < V; ++j) v[j] = cuda_value<Code>(v[j] * by_now[k] + (extra[j] + bias_now[k]), a);
      store_global<T, V>(to, v);
    }
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
  const CudaAct a = cuda_act(make_act(act, 0, false, alpha, gain, clamp));
  const auto st = static_cast<cudaStream_t>(stream);
  if (n == 0) return 0;
  return with_dtype(dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    constexpr int full = 16 / sizeof(T);
    const T *from = static_cast<const T*>(x), *levels = static_cast<const T*>(noise);
    T* to = static_cast<T*>(y);
    const auto run = [&](auto code, auto length) {
      constexpr int V = length.value;
      with_index(n, [&](auto index) {
        using Index = decltype(index);
        if (channels_last) {
          epilogue_pixels_kernel<code.value, T, V, Index>
              <<<grid_for(n / V), kThreads, 0, st>>>(from, scale, levels, strength, b, to, e, n / V, a);
        } else {
          const PlanesCut cut = cut_planes(e, e.pixels / V);
          epilogue_planes_kernel<code.value, T, V, Index>
              <<<unsigned(cut.blocks), cut.block, 0, st>>>(from, scale, levels, strength, b, to, e, cut, a);
        }
      });
    };
    const bool vectors =
        channels_last ? vectors_fit<T>(e, true, {x, y, scale, b}) : vectors_fit<T>(e, false, {x, y, noise});
    with_cuda_act(act, [&](auto code) {
      vectors ? run(code, std::integral_constant<int, full>()) : run(code, std::integral_constant<int, 1>());
    });
  });
}
