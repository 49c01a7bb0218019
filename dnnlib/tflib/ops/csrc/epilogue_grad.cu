// Gradient of what comes after a convolution (epilogue.cu), on GPUs.
#include "cuda_epilogue.cuh"

namespace ops {
namespace {

// Blocks of a multiprocessor, as registers allow without spilling; rows that are loaded before the first is computed;
// blocks channels last, all resident at once with the fewest partial sums; pixels of a block in planes, a multiple of
// all vector lengths, few enough that the last blocks to run take little time.
constexpr int kPixelsBlocks = 3, kPlanesBlocks = 4, kRows = 2;
constexpr int64_t kPixelsGrid = 132 * kPixelsBlocks, kPiece = 32768;

// Blocks leave sums[n, piece, 0, c] of dz and sums[n, piece, 1, c] of dz * x, and along[block] of dz * noise.
struct Partial {
  float *sums, *along;
};

// channels last: a thread keeps V channels and walks down the pixels of one sample; grid (pieces, channel tiles, N).
template <int Code, typename T, int V>
__global__ void __launch_bounds__(kThreads, kPixelsBlocks)
    grad_pixels_kernel(const T* __restrict__ dy, const T* __restrict__ y, const T* __restrict__ x,
                       const float* __restrict__ scale, const T* __restrict__ noise, T* __restrict__ dx,
                       Partial partial, Sizes e, CudaAct a) {
  __shared__ float4 held[kThreads * V / 4];
  const int64_t c = (blockIdx.y * int64_t(blockDim.x) + threadIdx.x) * V, n = blockIdx.z;
  const bool active = c < e.channels;
  float sum[V], moment[V], by[V], along = 0;
#pragma unroll
  for (int j = 0; j < V; ++j) {
    sum[j] = moment[j] = 0;
    by[j] = scale && active ? scale[n * e.channels + c + j] : 1.0f;
  }
  const int64_t rows = gridDim.x * int64_t(blockDim.y), first = blockIdx.x * int64_t(blockDim.y) + threadIdx.y;
  const int64_t start = (n * e.pixels + first) * e.channels + c, step = rows * e.channels;
  const T *from_dy = dy + start, *from_y = y + start, *from_x = x + start;
  const T* extra = noise ? noise + (e.noise_samples == 1 ? 0 : n) * e.pixels + first : nullptr;
  T* into = dx + start;
  // The number of rounds is known before the first: rows of one round can be loaded together.
  const int count = active && first < e.pixels ? int((e.pixels - first + rows - 1) / rows) : 0;
#pragma unroll kRows
  for (int k = 0; k < count; ++k) {
    const float level = extra ? widen(extra[k * rows]) : 0.0f;
    const int64_t i = k * step;
    float g[V], r[V], v[V];
    load<T, V>(from_dy + i, g);
    load<T, V>(from_y + i, r);
    load<T, V>(from_x + i, v);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const float dz = g[j] * cuda_factor<Code>(r[j], a);
      sum[j] += dz;
      moment[j] += dz * v[j];
      along += dz * level;
      g[j] = dz * by[j];
    }
    store_global<T, V>(into + i, g);
  }
  float* to = partial.sums + (n * gridDim.x + blockIdx.x) * 2 * e.channels;
  const int64_t tile = blockIdx.y * int64_t(blockDim.x) * V;
  sum_block_columns<V>(sum, held, [&](int k, float total) {
    if (tile + k < e.channels) to[tile + k] = total;
  });
  sum_block_columns<V>(moment, held, [&](int k, float total) {
    if (tile + k < e.channels) to[e.channels + tile + k] = total;
  });
  if (extra == nullptr) return;
  float one[1] = {along};
  block_sums<1>(one);
  if (threadIdx.x + threadIdx.y == 0) {
    partial.along[(n * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x] = one[0];
  }
}

// Planes: a block takes one piece of one plane.
template <int Code, typename T, int V>
__global__ void __launch_bounds__(kThreads, kPlanesBlocks)
    grad_planes_kernel(const T* __restrict__ dy, const T* __restrict__ y, const T* __restrict__ x,
                       const float* __restrict__ scale, const T* __restrict__ noise, T* __restrict__ dx,
                       Partial partial, Sizes e, CudaAct a) {
  for (int64_t plane = blockIdx.y; plane < e.samples * e.channels; plane += gridDim.y) {
    const int64_t n = plane / e.channels, begin = blockIdx.x * kPiece;
    const int64_t count = begin + kPiece < e.pixels ? kPiece : e.pixels - begin, at = plane * e.pixels + begin;
    const T *from_dy = dy + at, *from_y = y + at, *from_x = x + at;
    const T* extra = noise ? noise + (e.noise_samples == 1 ? 0 : n) * e.pixels + begin : nullptr;
    T* to = dx + at;
    const float s = scale ? scale[plane] : 1.0f;
    float sums[3] = {0, 0, 0};
#pragma unroll kRows
    for (int q = threadIdx.x * V; q < int(count); q += kThreads * V) {
      float g[V], r[V], v[V], level[V];
#pragma unroll
      for (int j = 0; j < V; ++j) level[j] = 0;
      load<T, V>(from_dy + q, g);
      load<T, V>(from_y + q, r);
      load<T, V>(from_x + q, v);
      if (extra) load<T, V>(extra + q, level);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        const float dz = g[j] * cuda_factor<Code>(r[j], a);
        sums[0] += dz;
        sums[1] += dz * v[j];
        sums[2] += dz * level[j];
        g[j] = dz * s;
      }
      store_global<T, V>(to + q, g);
    }
    block_sums<3>(sums);
    if (threadIdx.x != 0) continue;
    const int64_t c = plane - n * e.channels;
    float* of = partial.sums + (n * gridDim.x + blockIdx.x) * 2 * e.channels + c;
    of[0] = sums[0];
    of[e.channels] = sums[1];
    if (extra) partial.along[plane * gridDim.x + blockIdx.x] = sums[2];
  }
}

constexpr int kColumns = 8, kFinishThreads = 1024;  // channels of a block: 32 bytes of a row

// A block finishes one of these: dscale of one sample and tile of channels, db of one tile, dstrength (the last block).
__global__ void __launch_bounds__(kFinishThreads)
    finish_kernel(Partial partial, float* dscale, float* db, float* dstrength, Sizes e, int64_t pieces,
                  int64_t numbers) {
  const int64_t tiles = (e.channels + kColumns - 1) / kColumns, n = blockIdx.x / tiles;
  if (n > e.samples) {
    float sum[1] = {0};
#pragma unroll 4
    for (int64_t k = threadIdx.x; k < numbers; k += kFinishThreads) sum[0] += partial.along[k];
    block_sums<1>(sum);
    if (threadIdx.x == 0) *dstrength = sum[0];
    return;
  }
  const bool whole = n == e.samples;
  float* to = whole ? db : dscale;
  if (to == nullptr) return;
  const int64_t c = (blockIdx.x - n * tiles) * kColumns + threadIdx.x % kColumns;
  const float* from = partial.sums + (whole ? 0 : (n * pieces * 2 + 1) * e.channels) + c;
  const int64_t rows = c < e.channels ? (whole ? e.samples * pieces : pieces) : 0;
  const float sum = column_sum<kColumns, kFinishThreads>(rows, [&](int64_t k) { return from[k * 2 * e.channels]; });
  if (threadIdx.x < kColumns && c < e.channels) to[(whole ? 0 : n * e.channels) + c] = sum;
}

// Pieces of a sample, whatever the number type: enough for the card, of a few rows of a block each.
int64_t pieces_of(const Sizes& e, bool last) {
  if (!last) return std::max<int64_t>(ceil_div(e.pixels, kPiece), 1);
  const int64_t most = std::max<int64_t>(kPixelsGrid / std::max<int64_t>(e.samples, 1), 1);
  return std::clamp<int64_t>(ceil_div(e.pixels, least_rows(e.channels)), 1, most);
}

template <int Code, typename T, int V>
int64_t launch_grad(const T* dy, const T* y, const T* x, const float* scale, const T* noise, T* dx,
                    const Partial& partial, const Sizes& e, bool last, const ActParams& p, cudaStream_t stream) {
  const CudaAct a = cuda_act(p);
  const unsigned pieces = unsigned(pieces_of(e, last));
  if (last) {
    const int64_t vectors = e.channels / V;
    const int width = block_width(vectors);
    const dim3 block(width, kThreads / width), grid(pieces, unsigned(ceil_div(vectors, width)), unsigned(e.samples));
    grad_pixels_kernel<Code, T, V><<<grid, block, 0, stream>>>(dy, y, x, scale, noise, dx, partial, e, a);
    return pieces * int64_t(grid.y) * e.samples;
  }
  const dim3 grid(pieces, unsigned(std::min<int64_t>(e.samples * e.channels, 65535)));
  grad_planes_kernel<Code, T, V><<<grid, kThreads, 0, stream>>>(dy, y, x, scale, noise, dx, partial, e, a);
  return pieces * e.samples * e.channels;
}

}  // namespace
}  // namespace ops

using namespace ops;

int64_t ops_cuda_epilogue_grad_workspace(const int64_t* sizes, int channels_last) {
  const Sizes e = make_sizes(sizes);
  return e.samples * pieces_of(e, channels_last) * 3 * e.channels + 1;
}

int ops_cuda_epilogue_grad(int dtype, int act, double alpha, double gain, double clamp, const void* dy, const void* y,
                           const void* x, const float* scale, const void* noise, void* dx, float* dscale,
                           float* dstrength, float* db, float* workspace, const int64_t* sizes, int channels_last,
                           void* stream) {
  const Sizes e = make_sizes(sizes);
  const auto st = static_cast<cudaStream_t>(stream);
  if (channels_last && e.samples > 65535) return cudaErrorInvalidValue;
  if (y == nullptr) y = dy;  // not looked at: the slope is constant
  const ActParams p = make_act(act, 0, false, alpha, gain, clamp);
  return with_dtype(dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    constexpr int full = 16 / sizeof(T);
    const int64_t pieces = pieces_of(e, channels_last);
    const Partial partial{workspace, workspace + e.samples * pieces * 2 * e.channels};
    if (e.samples * e.channels * e.pixels == 0) {
      if (db) cudaMemsetAsync(db, 0, e.channels * sizeof(float), st);
      if (dstrength) cudaMemsetAsync(dstrength, 0, sizeof(float), st);
      if (dscale) cudaMemsetAsync(dscale, 0, e.samples * e.channels * sizeof(float), st);
      return;
    }
    int64_t numbers = 0;  // of the sums for dstrength
    with_cuda_factor(p, [&](auto code) {
      const auto run = [&](auto length) {
        numbers = launch_grad<code.value, T, length.value>(
            static_cast<const T*>(dy), static_cast<const T*>(y), static_cast<const T*>(x), scale,
            static_cast<const T*>(noise), static_cast<T*>(dx), partial, e, channels_last, p, st);
      };
      if (vectors_fit<T>(e, channels_last, {dy, y, x, dx, channels_last ? nullptr : noise})) {
        run(std::integral_constant<int, full>());
      } else {
        run(std::integral_constant<int, 1>());
      }
    });
    const int64_t blocks = ceil_div(e.channels, kColumns) * (e.samples + 1) + (dstrength ? 1 : 0);
    finish_kernel<<<unsigned(blocks), kFinishThreads, 0, st>>>(partial, dscale, db, dstrength, e, pieces,
                                                               noise ? numbers : 0);
  });
}
