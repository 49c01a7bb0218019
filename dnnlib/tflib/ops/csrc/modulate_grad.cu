// Gradient of the modulation of convolution weights on GPUs.
#include "cuda_modulate.cuh"

namespace ops {
namespace {

constexpr int kSide = 8, kDown = 4;  // lanes of a warp along outputs and along inputs
constexpr int kGradThreads = 128;
constexpr int kGradBlocks = 4;  // of a multiprocessor: registers for dy of the next sample

// A warp takes (kDown inputs, kSide * V outputs) of all samples: dw, and of the product of dy and w over the taps,
// product[n, i, o], what ds and dd sum: of_s[tile of outputs, n, i] and of_d[n, kDown inputs, o].
template <typename T, int V, int Taps>
__global__ void __launch_bounds__(kGradThreads, Taps > 1 ? kGradBlocks : 8)
    modulate_grad_kernel(const T* __restrict__ dy, const T* __restrict__ w, const T* __restrict__ s,
                         const float* __restrict__ d, T* __restrict__ dw, float* __restrict__ of_s,
                         float* __restrict__ of_d, Sizes m, Steps step, uint32_t tiles, int rotate) {
  const uint32_t warp = blockIdx.x * (kGradThreads / 32) + (threadIdx.x >> 5), lane = threadIdx.x & 31;
  const uint32_t group = warp / tiles, groups = uint32_t((m.in + kDown - 1) / kDown);
  if (group >= groups) return;
  const int64_t in = int64_t(group) * kDown + lane / kSide, tile = warp - group * tiles;
  const int64_t out = (tile * kSide + lane % kSide) * V;
  const bool active = in < m.in && out < m.out;
  // Lanes beyond the end look at the last numbers, and add none of them to any sum.
  const int64_t i = in < m.in ? in : m.in - 1, o = out < m.out ? out : m.out - V, tap = m.in * m.out;
  // Blocks that begin with different samples meet in fewer channels of the memory where samples lie side by side.
  const uint32_t samples = uint32_t(m.samples), start = rotate ? group % samples : 0;
  // Every thread its own: registers are for what is on its way.
  __shared__ Vec<float, V> weights[Taps][kGradThreads];
  constexpr bool kAhead = sizeof(T) == 2;  // dy of the next sample is on its way while this one is computed
  for (int64_t first = 0; first < m.taps; first += Taps) {
    float sum[Taps][V];
    const T* from = w + first * tap + i * m.out + o;
#pragma unroll
    for (int t = 0; t < Taps; ++t) {
      load<T, V>(from + t * tap, weights[t][threadIdx.x].v);
#pragma unroll
      for (int j = 0; j < V; ++j) sum[t][j] = 0;
    }
    const T* all = dy + first * step.tap + i * step.in + o;
    uint32_t k = start;
    // What a sample needs is loaded together: loads arrive in order, and one of a style behind those of the next dy
    // would wait for all of these.
    Row<T, V> rows[Taps];
    T style{};
    float factors[V];
#pragma unroll
    for (int j = 0; j < V; ++j) factors[j] = 1;
    const auto fetch = [&](uint32_t n) {
      style = s[n * m.in + i];
      if (d) load_floats<V>(d + n * m.out + o, factors);
      const T* row = all + n * step.sample;
#pragma unroll
      for (int t = 0; t < Taps; ++t, row += step.tap) rows[t] = load_row<T, V>(row);
    };
    if (samples > 0) fetch(k);
    for (uint32_t count = samples; count > 0; --count) {
      const uint32_t next = k + 1 < samples ? k + 1 : 0;
      Row<T, V> now[Taps];
#pragma unroll
      for (int t = 0; t < Taps; ++t) now[t] = rows[t];
      const float of_now = widen(style);
      float by[V], total[V], of_style = 0;
#pragma unroll
      for (int j = 0; j < V; ++j) by[j] = factors[j], total[j] = 0;
      if (kAhead && count > 1) fetch(next);
      asm volatile("" ::: "memory");  // or the compiler keeps the weights in registers
#pragma unroll
      for (int t = 0; t < Taps; ++t) {
        const Vec<float, V> weight = weights[t][threadIdx.x];
        float g[V];
        widen_row<T, V>(now[t], g);
#pragma unroll
        for (int j = 0; j < V; ++j) {
          total[j] += g[j] * weight.v[j];
          sum[t][j] += g[j] * (of_now * by[j]);
        }
      }
      if (!kAhead && count > 1) fetch(next);
#pragma unroll
      for (int j = 0; j < V; ++j) of_style += total[j] * by[j], total[j] = active ? total[j] * of_now : 0.0f;
      of_style = active ? of_style : 0.0f;
      for (int bit = kSide / 2; bit > 0; bit >>= 1) of_style += __shfl_xor_sync(0xffffffffu, of_style, bit);
      if (lane % kSide == 0 && in < m.in) {
        float* to = of_s + (tile * m.samples + k) * m.in + in;
        *to = first ? *to + of_style : of_style;
      }
      if (of_d) {
        float one = scatter_sum<V>(total, lane, kDown / 2 * kSide);  // of output lane / kSide of the vector
        if (V == 1) {
          for (int bit = kDown / 2 * kSide; bit >= kSide; bit >>= 1) one += __shfl_xor_sync(0xffffffffu, one, bit);
        }
        if (out < m.out && (V > 1 || lane < kSide)) {
          float* to = of_d + (int64_t(k) * groups + group) * m.out + out + lane / kSide;
          *to = first ? *to + one : one;
        }
      }
      k = next;
    }
    if (!active) continue;
#pragma unroll
    for (int t = 0; t < Taps; ++t) store_global<T, V>(dw + (first + t) * tap + i * m.out + o, sum[t]);
  }
}

constexpr int kFinishColumns = 32;

// ds[n, i] and, unless null, dd[n, o]; the first blocks take one row of kFinishColumns of dd each.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    finish_grad_kernel(const float* __restrict__ of_s, const float* __restrict__ of_d, T* __restrict__ ds,
                       float* __restrict__ dd, Sizes m, int64_t tiles, int64_t groups, int64_t dd_blocks) {
  if (blockIdx.x < dd_blocks) {
    const int64_t per_row = (m.out + kFinishColumns - 1) / kFinishColumns, n = blockIdx.x / per_row;
    const int64_t o = (blockIdx.x - n * per_row) * kFinishColumns + threadIdx.x % kFinishColumns;
    const float* from = of_d + n * groups * m.out + o;
    const float sum = column_sum<kFinishColumns, kThreads>(o < m.out ? groups : 0, [&](int64_t r) {
      return from[r * m.out];
    });
    if (threadIdx.x < kFinishColumns && o < m.out) dd[n * m.out + o] = sum;
    return;
  }
  const int64_t idx = (blockIdx.x - dd_blocks) * kThreads + threadIdx.x, numbers = m.samples * m.in;
  if (idx >= numbers) return;
  float sum = 0;
#pragma unroll 8
  for (int64_t t = 0; t < tiles; ++t) sum += of_s[t * numbers + idx];
  ds[idx] = narrow<T, float>(sum);
}

}  // namespace
}  // namespace ops

using namespace ops;

int64_t ops_cuda_modulate_grad_workspace(const int64_t* sizes) {
  const Sizes m = make_sizes(sizes);
  const int64_t tiles = ceil_div(m.out, kSide), groups = ceil_div(m.in, kDown);  // without vectors
  return std::max<int64_t>(m.samples * (tiles * m.in + groups * m.out), 1);
}

int ops_cuda_modulate_grad(int dtype, const void* dy, const void* w, const void* s, const float* d, void* dw, void* ds,
                           float* dd, float* workspace, const int64_t* sizes, int grouped, void* stream) {
  const Sizes m = make_sizes(sizes);
  const auto st = static_cast<cudaStream_t>(stream);
  if (m.samples >= int64_t(1) << 31) return cudaErrorInvalidValue;
  return with_dtype(dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const T *g = static_cast<const T*>(dy), *wt = static_cast<const T*>(w), *styles = static_cast<const T*>(s);
    int64_t tiles = 0, groups = 0;
    float* of_d = workspace;
    if (m.in * m.out * m.taps > 0) {
      groups = ceil_div(m.in, kDown);
      with_taps(m, {dy, w, d, dw}, [&](auto length, auto taps) {
        tiles = ceil_div(m.out, kSide * length.value);
        modulate_grad_kernel<T, length.value, taps.value>
            <<<unsigned(ceil_div(tiles * groups, kGradThreads / 32)), kGradThreads, 0, st>>>(
                g, wt, styles, d, static_cast<T*>(dw), workspace + m.samples * groups * m.out, dd ? of_d : nullptr, m,
                make_steps(m, grouped), uint32_t(tiles), grouped && m.samples > 0);
      });
    }
    const int64_t dd_blocks = dd ? m.samples * ceil_div(m.out, kFinishColumns) : 0;
    const int64_t blocks = dd_blocks + ceil_div(m.samples * m.in, kThreads);
    if (blocks == 0) return;
    finish_grad_kernel<T><<<unsigned(blocks), kThreads, 0, st>>>(
        workspace + m.samples * groups * m.out, of_d, static_cast<T*>(ds), dd, m, tiles, groups, dd_blocks);
  });
}
