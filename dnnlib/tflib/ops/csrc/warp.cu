// Affine warp on GPUs. A block makes a tile of the result: it computes the fine samples under it, each a weighted sum
// of 7 x 7 pixels that the cache keeps, in shared memory, and filters them down there.
#include "cuda_warp.cuh"

namespace ops {
namespace {

constexpr int kWide = 32, kHigh = 16;  // of a tile
constexpr int kFineWide = 2 * kWide + 2 * kWarpBorder, kFineHigh = 2 * kHigh + 2 * kWarpBorder;
constexpr int kSeen = kWarpWindow - 1;  // pixels with a weight

// The pixels that a sample sees along an axis, and their weights; false for none. table: `first` for either parity,
// then `second` (see WarpWeights).
__device__ __forceinline__ bool locate(const WarpAxis& axis, const WarpLine& line, int i, int r, const float* table,
                                       int* pixels, float* weights) {
  const float offset = line.offset(i, r), below = floorf(offset);
  if (!(fabsf(offset) < kWarpFar)) return false;
  const int first = line.whole + int(below), lo = 2 * axis.lo(), hi = 2 * axis.hi() + 1;
  if (first < lo - 1 || first > hi) return false;
  const float f = offset - below, near = first < lo ? 0.0f : 1.0f - f, far = first + 1 > hi ? 0.0f : f;
  const int parity = first & 1, pixel = (first - parity) / 2 - kWarpBefore;
  float a[kWarpWindow], b[kWarpWindow];
#pragma unroll
  for (int j = 0; j < kWarpWindow; j += 4) {
    load<float, 4>(table + parity * kWarpWindow + j, a + j);
    load<float, 4>(table + (2 + parity) * kWarpWindow + j, b + j);
  }
#pragma unroll
  for (int j = 0; j < kSeen; ++j) {
    // Pixels beyond the extension count as zero: the nearest inside, which the sample sees anyway, has weight 0 there.
    const int p = pixel + j < axis.lo() ? axis.lo() : pixel + j > axis.hi() ? axis.hi() : pixel + j;
    pixels[j] = axis.source(p);
    weights[j] = p == pixel + j ? near * a[j] + far * b[j] : 0.0f;
  }
  return true;
}

template <typename T>
__global__ void __launch_bounds__(kWarpThreads, 3)  // blocks of a multiprocessor, as many as 80 registers allow
    warp_kernel(const T* __restrict__ x, const float* __restrict__ theta, T* __restrict__ y, WarpShape s,
                WarpWeights<float> weights, WarpFilter filter, int tiles_x, int tiles_y) {
  __shared__ float fine[kColors][kFineHigh][kFineWide], mid[kHigh][kFineWide];
  __shared__ Vec<float, 4> storage[kWarpWindow];
  __shared__ WarpLine lines[2];
  float* const table = storage[0].v;
  if (threadIdx.x < 2 * kWarpWindow) {
    table[threadIdx.x] = weights.first[threadIdx.x / kWarpWindow][threadIdx.x % kWarpWindow];
    table[2 * kWarpWindow + threadIdx.x] = weights.second[threadIdx.x / kWarpWindow][threadIdx.x % kWarpWindow];
  }
  const int x0 = blockIdx.x % tiles_x * kWide, y0 = blockIdx.x / tiles_x % tiles_y * kHigh;
  const int64_t c0 = int64_t(blockIdx.x / tiles_x / tiles_y) * kColors, plane = int64_t(s.h) * s.w;
  const int colors = s.channels - c0 < kColors ? int(s.channels - c0) : kColors;
  const WarpAxis axis_y{s.h}, axis_x{s.w};

  for (int64_t n = blockIdx.z; n < s.samples; n += gridDim.z) {
    const float* map = theta + 6 * n;
    const T* image = x + (n * s.channels + c0) * plane;
    T* result = y + (n * s.channels + c0) * plane;
    const WarpKind kind = warp_kind(map);
    if (kind != WarpKind::kOther) {
      warp_plainly(kind, image, result, s, colors, y0, x0, kHigh, kWide);
      continue;
    }
    if (threadIdx.x < 2) {
      lines[threadIdx.x] = warp_line(s, map + 3 * threadIdx.x, threadIdx.x ? s.h : s.w, 2 * x0, 2 * y0);
    }
    __syncthreads();
    for (int j = threadIdx.x; j < kFineHigh * kFineWide; j += kWarpThreads) {
      const int i = j % kFineWide, r = j / kFineWide;
      float sum[kColors] = {0, 0, 0};
      int columns[kSeen], rows[kSeen];
      float wx[kSeen], wy[kSeen];
      if (locate(axis_x, lines[0], i, r, table, columns, wx) && locate(axis_y, lines[1], i, r, table, rows, wy)) {
#pragma unroll
        for (int b = 0; b < kSeen; ++b) {
          const T* row = image + int64_t(rows[b]) * s.w;
#pragma unroll
          for (int c = 0; c < kColors; ++c) {
            if (c >= colors) break;
            float line = 0;
#pragma unroll
            for (int a = 0; a < kSeen; ++a) line += wx[a] * widen(row[columns[a]]);
            sum[c] += wy[b] * line;
            row += plane;
          }
        }
      }
#pragma unroll
      for (int c = 0; c < kColors; ++c) fine[c][r][i] = sum[c];
    }
    __syncthreads();
    for (int c = 0; c < colors; ++c) {
      for (int j = threadIdx.x; j < kHigh * kFineWide; j += kWarpThreads) {
        const int i = j % kFineWide, o = j / kFineWide;
        float sum = 0;
#pragma unroll
        for (int k = 0; k < kWarpTaps; ++k) sum += filter.g[k] * fine[c][2 * o + k][i];
        mid[o][i] = sum;
      }
      __syncthreads();
      for (int j = threadIdx.x; j < kHigh * kWide; j += kWarpThreads) {
        const int i = j % kWide, o = j / kWide;
        float sum = 0;
#pragma unroll
        for (int k = 0; k < kWarpTaps; ++k) sum += filter.g[k] * mid[o][2 * i + k];
        if (x0 + i < s.w && y0 + o < s.h) result[c * plane + int64_t(y0 + o) * s.w + x0 + i] = narrow<T, float>(sum);
      }
      __syncthreads();
    }
  }
}

}  // namespace
}  // namespace ops

using namespace ops;

int ops_cuda_warp(int dtype, int adjoint, const void* x, const float* theta, void* y, const int64_t* sizes,
                  const float* taps, void* stream) {
  if (sizes[2] < 2 || sizes[3] < 2 || sizes[2] >= 1 << 20 || sizes[3] >= 1 << 20) return cudaErrorInvalidValue;
  const WarpShape s{sizes[0], sizes[1], int(sizes[2]), int(sizes[3])};
  if (s.samples * s.channels == 0) return 0;
  const int64_t tiles_x = ceil_div(s.w, kWide), tiles_y = ceil_div(s.h, kHigh);
  const int64_t blocks = tiles_x * tiles_y * ceil_div(s.channels, kColors);
  if (blocks > INT32_MAX / 4) return cudaErrorInvalidValue;  // the adjoint has more of them, but fewer than 4 times
  WarpFilter filter;
  for (int k = 0; k < kWarpTaps; ++k) filter.g[k] = taps[k] / std::sqrt(2.0f);
  const auto st = static_cast<cudaStream_t>(stream);
  return with_dtype(dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const T* from = static_cast<const T*>(x);
    T* to = static_cast<T*>(y);
    if (adjoint) {
      launch_warp_adjoint<T>(from, theta, to, s, taps, filter, st);
      return;
    }
    const dim3 grid(unsigned(blocks), 1, unsigned(std::min<int64_t>(s.samples, 65535)));
    warp_kernel<T><<<grid, kWarpThreads, 0, st>>>(from, theta, to, s, WarpWeights<float>(taps), filter, int(tiles_x),
                                                  int(tiles_y));
  });
}
