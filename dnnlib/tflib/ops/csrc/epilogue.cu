// Demodulation, noise, bias, activation and clamp after a convolution, on GPUs.
#include "cuda_common.cuh"

namespace ops {
namespace {

struct Sizes {
  int64_t samples, channels, pixels, noise_samples;
};

constexpr int kSums = 3;         // of dz, dz * x, dz * noise
constexpr int64_t kPiece = 32768;  // pixels of one block, planes; a multiple of all vector lengths

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

// channels last: a thread keeps V channels and walks down the pixels of one sample; grid (pieces, channel tiles, N).
template <int Code, typename T, int V>
__global__ void __launch_bounds__(kThreads)
    grad_pixels_kernel(const T* __restrict__ dy, const T* __restrict__ y, const T* __restrict__ x,
                       const float* __restrict__ scale, const T* __restrict__ noise, T* __restrict__ dx, float* partial,
                       Sizes e, CudaAct a) {
  __shared__ float shared[kThreads * V];
  const int64_t c = (blockIdx.y * int64_t(blockDim.x) + threadIdx.x) * V, n = blockIdx.z;
  const bool active = c < e.channels;
  float sums[kSums][V], s[V];
#pragma unroll
  for (int j = 0; j < V; ++j) {
    sums[0][j] = sums[1][j] = sums[2][j] = 0;
    s[j] = scale && active ? scale[n * e.channels + c + j] : 1.0f;
  }
#pragma unroll 2
  for (int64_t q = blockIdx.x * int64_t(blockDim.y) + threadIdx.y; active && q < e.pixels;
       q += gridDim.x * int64_t(blockDim.y)) {
    const int64_t i = (n * e.pixels + q) * e.channels + c;
    const float extra = noise ? widen(noise[(e.noise_samples == 1 ? 0 : n) * e.pixels + q]) : 0.0f;
    float g[V], r[V], v[V];
    load<T, V>(dy + i, g);
    load<T, V>(y + i, r);
    load<T, V>(x + i, v);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const float dz = g[j] * cuda_factor<Code>(r[j], a);
      sums[0][j] += dz;
      sums[1][j] += dz * v[j];
      sums[2][j] += dz * extra;
      g[j] = dz * s[j];
    }
    store<T, V>(dx + i, g);
  }
#pragma unroll
  for (int k = 0; k < kSums; ++k) {
    sum_block_rows<V>(sums[k], shared);
    if (threadIdx.y != 0 || !active) continue;
#pragma unroll
    for (int j = 0; j < V; ++j) partial[((n * gridDim.x + blockIdx.x) * kSums + k) * e.channels + c + j] = sums[k][j];
  }
}

// Planes: a block takes one piece of one plane.
template <int Code, typename T, int V>
__global__ void __launch_bounds__(kThreads)
    grad_planes_kernel(const T* dy, const T* y, const T* x, const float* scale, const T* noise, T* dx, float* partial,
                       Sizes e, CudaAct a) {
  for (int64_t plane = blockIdx.y; plane < e.samples * e.channels; plane += gridDim.y) {
    const int64_t n = plane / e.channels, begin = blockIdx.x * kPiece;
    const int64_t end = begin + kPiece < e.pixels ? begin + kPiece : e.pixels;
    const float s = scale ? scale[plane] : 1.0f;
    float sums[kSums] = {0, 0, 0};
    for (int64_t q = begin + threadIdx.x * V; q < end; q += kThreads * V) {
      float g[V], r[V], v[V], extra[V];
#pragma unroll
      for (int j = 0; j < V; ++j) extra[j] = 0;
      load<T, V>(dy + plane * e.pixels + q, g);
      load<T, V>(y + plane * e.pixels + q, r);
      load<T, V>(x + plane * e.pixels + q, v);
      if (noise) load<T, V>(noise + (e.noise_samples == 1 ? 0 : n) * e.pixels + q, extra);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        const float dz = g[j] * cuda_factor<Code>(r[j], a);
        sums[0] += dz;
        sums[1] += dz * v[j];
        sums[2] += dz * extra[j];
        g[j] = dz * s;
      }
      store<T, V>(dx + plane * e.pixels + q, g);
    }
    for (int k = 0; k < kSums; ++k) {
      const float total = block_sum(sums[k]);
      if (threadIdx.x == 0) {
        partial[((n * gridDim.x + blockIdx.x) * kSums + k) * e.channels + plane % e.channels] = total;
      }
    }
  }
}

// From partial[n, piece, sum, c]: dscale[n, c], db[c], and per-channel sums for the strength at the end of `partial`.
__global__ void finish_channels_kernel(const float* partial, float* dscale, float* db, float* per_channel, Sizes e,
                                       int64_t pieces) {
  const int64_t c = blockIdx.x;
  float total[kSums] = {0, 0, 0};
  for (int64_t n = 0; n < e.samples; ++n) {
    float sums[kSums] = {0, 0, 0};
    for (int64_t k = threadIdx.x; k < pieces; k += blockDim.x) {
      for (int j = 0; j < kSums; ++j) sums[j] += partial[((n * pieces + k) * kSums + j) * e.channels + c];
    }
    for (int j = 0; j < kSums; ++j) {
      const float sum = block_sum(sums[j]);
      total[j] += sum;
      if (j == 1 && dscale && threadIdx.x == 0) dscale[n * e.channels + c] = sum;
    }
  }
  if (threadIdx.x != 0) return;
  if (db) db[c] = total[0];
  per_channel[c] = total[2];
}

__global__ void finish_strength_kernel(const float* per_channel, float* dstrength, int64_t channels) {
  float sum = 0;
  for (int64_t c = threadIdx.x; c < channels; c += blockDim.x) sum += per_channel[c];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *dstrength = sum;
}

Sizes make_sizes(const int64_t* sizes) { return {sizes[0], sizes[1], sizes[2], sizes[3]}; }

int64_t pieces_of(const Sizes& e, bool last) {
  return last ? std::clamp<int64_t>(ceil_div(e.pixels, 64), 1, 512) : std::max<int64_t>(ceil_div(e.pixels, kPiece), 1);
}

template <typename T>
bool vectors_fit(const Sizes& e, bool last, std::initializer_list<const void*> pointers) {
  constexpr int full = 16 / sizeof(T);
  return (last ? e.channels : e.pixels) % full == 0 && std::all_of(pointers.begin(), pointers.end(), aligned16);
}

template <int Code, typename T, int V>
void launch_grad(const T* dy, const T* y, const T* x, const float* scale, const T* noise, T* dx, float* partial,
                 const Sizes& e, bool last, const ActParams& p, cudaStream_t stream) {
  const CudaAct a = cuda_act(p);
  const unsigned pieces = unsigned(pieces_of(e, last));
  if (last) {
    const int64_t vectors = e.channels / V;
    const int width = block_width(vectors);
    const dim3 block(width, kThreads / width), grid(pieces, unsigned(ceil_div(vectors, width)), unsigned(e.samples));
    grad_pixels_kernel<Code, T, V><<<grid, block, 0, stream>>>(dy, y, x, scale, noise, dx, partial, e, a);
  } else {
    const dim3 grid(pieces, unsigned(std::min<int64_t>(e.samples * e.channels, 65535)));
    grad_planes_kernel<Code, T, V><<<grid, kThreads, 0, stream>>>(dy, y, x, scale, noise, dx, partial, e, a);
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

int64_t ops_cuda_epilogue_grad_workspace(const int64_t* sizes, int channels_last) {
  const Sizes e = make_sizes(sizes);
  return (e.samples * pieces_of(e, channels_last) * kSums + 1) * e.channels + 1;
}

int ops_cuda_epilogue_grad(int dtype, int act, int order, double alpha, double gain, double clamp, const void* dy,
                           const void* y, const void* x, const float* scale, const void* noise, void* dx,
                           float* dscale, float* dstrength, float* db, float* workspace, const int64_t* sizes,
                           int channels_last, void* stream) {
  const Sizes e = make_sizes(sizes);
  const auto st = static_cast<cudaStream_t>(stream);
  if (order < 0 || order > kMaxOrder || e.samples > 65535) return cudaErrorInvalidValue;
  if (y == nullptr) y = dy;  // not looked at: the slope is constant
  const ActParams p = make_act(act, order, false, alpha, gain, clamp);
  return with_dtype(dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    constexpr int full = 16 / sizeof(T);
    const int64_t pieces = pieces_of(e, channels_last);
    float* per_channel = workspace + e.samples * pieces * kSums * e.channels;
    if (e.samples * e.channels * e.pixels == 0) {
      if (db) cudaMemsetAsync(db, 0, e.channels * sizeof(float), st);
      if (dstrength) cudaMemsetAsync(dstrength, 0, sizeof(float), st);
      if (dscale) cudaMemsetAsync(dscale, 0, e.samples * e.channels * sizeof(float), st);
      return;
    }
    with_cuda_act(act, [&](auto code) {
      const auto run = [&](auto length) {
        launch_grad<code.value, T, length.value>(static_cast<const T*>(dy), static_cast<const T*>(y),
                                                 static_cast<const T*>(x), scale, static_cast<const T*>(noise),
                                                 static_cast<T*>(dx), workspace, e, channels_last, p, st);
      };
      if (vectors_fit<T>(e, channels_last, {dy, y, x, dx, channels_last ? nullptr : noise})) {
        run(std::integral_constant<int, full>());
      } else {
        run(std::integral_constant<int, 1>());
      }
    });
    finish_channels_kernel<<<unsigned(e.channels), 128, 0, st>>>(workspace, dscale, db, per_channel, e, pieces);
    if (dstrength) finish_strength_kernel<<<1, 256, 0, st>>>(per_channel, dstrength, e.channels);
  });
}
