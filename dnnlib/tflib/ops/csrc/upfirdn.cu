// upfirdn on GPUs. The filters of the networks and of the augmentations (separable, 4 or 12 taps, one factor of 2 or
// none) go by tiles: a block brings a tile of the input to shared memory in vectors of 16 bytes, all loads under way
// together; then every thread walks down a column and keeps the rows it has filtered along x in registers. All other
// filters take a direct sum.
#include "cuda_common.cuh"
#include "resampling.h"

namespace ops {
namespace {

struct Filter {
  float v[kMaxTaps2d];
};
struct Axes {
  float y[kMaxTaps], x[kMaxTaps];
};

struct Shape {
  int64_t outer, inner;
  ResamplingAxis y, x;
};

template <typename T, typename F, bool Separable>
__global__ void __launch_bounds__(kThreads) direct_kernel(const T* in, T* out, Shape s, F filter, int64_t total) {
  for (int64_t i = blockIdx.x * int64_t(kThreads) + threadIdx.x; i < total; i += gridDim.x * int64_t(kThreads)) {
    const int64_t c = i % s.inner, pixel = i / s.inner;
    const int ox = int(pixel % s.x.out), oy = int(pixel / s.x.out % s.y.out);
    const int64_t n = pixel / s.x.out / s.y.out;
    int tap_y, sample_y;
    first_tap(s.y, oy, &tap_y, &sample_y);
    float sum = 0;
    for (; tap_y < s.y.taps; tap_y += s.y.up, ++sample_y) {
      if (sample_y < 0 || sample_y >= s.y.in) continue;
      const T* row = in + (n * s.y.in + sample_y) * s.x.in * s.inner + c;
      int tap_x, sample_x;
      first_tap(s.x, ox, &tap_x, &sample_x);
      float line = 0;
      for (; tap_x < s.x.taps; tap_x += s.x.up, ++sample_x) {
        if (sample_x < 0 || sample_x >= s.x.in) continue;
        float g;
        if constexpr (Separable) {
          g = filter.x[tap_x];
        } else {
          g = filter.v[tap_y * s.x.taps + tap_x];
        }
        line += g * widen(row[sample_x * s.inner]);
      }
      if constexpr (Separable) {
        sum += filter.y[tap_y] * line;
      } else {
        sum += line;
      }
    }
    out[i] = narrow<T, float>(sum);
  }
}

// The tile of a block. U, D: factors, one of them 1. Last: channels last, a tile holds kChunk channels of its pixels.
template <typename T, int Taps, int U, int D, bool Last>
struct Tile {
  static constexpr int kVector = 16 / sizeof(T);              // numbers of one load
  static constexpr int kEach = 4 / sizeof(T);                 // outputs of one thread in one row
  static constexpr int kChunk = Last ? 64 / sizeof(T) : 1;
  static constexpr int kWidth = kThreads * kEach / kChunk;    // output pixels; even, as phases of U == 2 need
  static constexpr int kHeight = U == 2 ? 32 : (D == 1 ? 16 : (Taps > 4 ? 4 : 8));
  static constexpr int kMeet = Taps / U;                      // input rows (and columns) that meet one output
  static constexpr int kColumns = U == 2 ? kWidth / 2 + kMeet : (kWidth - 1) * D + kMeet;
  static constexpr int kRows = U == 2 ? kHeight / 2 + kMeet : (kHeight - 1) * D + kMeet;
  static constexpr int kVectors = (kColumns * kChunk + (Last ? 0 : kVector - 1) + kVector - 1) / kVector;  // of a row
  static constexpr int kPitch = kVectors * kVector;
};

// Where the samples of output `o` of a tile begin; the tile begins at an even output whose first tap is `tap`.
template <int U, int D>
__device__ __forceinline__ int sample_of(int o, int tap) {
  return U == 1 ? o * D : (o + (tap == 0)) / 2;
}

// Rows of planes need not begin at a multiple of 16 bytes: a row of the tile begins at the multiple before its first
// sample, and this says how many numbers before.
template <int V>
__device__ __forceinline__ int row_shift(int64_t first) {
  return static_cast<int>(first & (V - 1));
}

// Brings rows [y0, y0 + kRows) from column x0 on (channels from c0 on) to `tile`, zeros outside of the image.
template <typename Shape_, typename T, typename Box, bool Last>
__device__ __forceinline__ void load_tile(const T* in, T* tile, const Shape_& s, int64_t n, int y0, int x0, int64_t c0) {
  constexpr int V = Box::kVector;
#pragma unroll 4
  for (int i = threadIdx.x; i < Box::kRows * Box::kVectors; i += kThreads) {
    const int r = i / Box::kVectors, q = i % Box::kVectors, y = y0 + r;
    Vec<T, V> value;
#pragma unroll
    for (int j = 0; j < V; ++j) value.v[j] = T(0);
    if (y >= 0 && y < s.y.in) {
      const int64_t row = (n * s.y.in + y) * s.x.in;
      if (Last) {
        constexpr int kPerPixel = Box::kChunk / V > 0 ? Box::kChunk / V : 1;
        const int x = x0 + q / kPerPixel;
        if (x >= 0 && x < s.x.in) {
          value = *reinterpret_cast<const Vec<T, V>*>(in + (row + x) * s.inner + c0 + q % kPerPixel * V);
        }
      } else {
        const int x = x0 - row_shift<V>(row + x0) + q * V;
        if (x >= 0 && x + V <= s.x.in) {
          value = *reinterpret_cast<const Vec<T, V>*>(in + row + x);
        } else {
#pragma unroll
          for (int j = 0; j < V; ++j) {
            if (x + j >= 0 && x + j < s.x.in) value.v[j] = in[row + x + j];
          }
        }
      }
    }
    *reinterpret_cast<Vec<T, V>*>(tile + r * Box::kPitch + q * V) = value;
  }
}

template <typename T, int Taps, int U, int D, bool Last>
__global__ void __launch_bounds__(kThreads) tile_kernel(const T* in, T* out, Shape s, Axes filter, int chunks) {
  using Box = Tile<T, Taps, U, D, Last>;
  constexpr int V = Box::kEach, kMeet = Box::kMeet;
  __shared__ Vec<T, Box::kVector> storage[Box::kRows * Box::kVectors];
  T* const tile = reinterpret_cast<T*>(storage);
  const int64_t c0 = int64_t(blockIdx.x % chunks) * Box::kChunk;
  const int first_o = blockIdx.x / chunks * Box::kWidth, first_row = blockIdx.y * Box::kHeight;
  int tap_x, x0, tap_y, y0;
  first_tap(s.x, first_o, &tap_x, &x0);
  first_tap(s.y, first_row, &tap_y, &y0);

  const int c = Last ? threadIdx.x * V % Box::kChunk : 0;
  const int ox = Last ? threadIdx.x * V / Box::kChunk : threadIdx.x * V;  // within the tile
  int at[V];
  float gx[V][kMeet];
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const int o = Last ? ox : ox + v;
    at[v] = Last ? sample_of<U, D>(o, tap_x) * Box::kChunk + c + v : sample_of<U, D>(o, tap_x);
#pragma unroll
    for (int k = 0; k < kMeet; ++k) {
      gx[v][k] = U == 1 ? filter.x[k] : ((tap_x + o) & 1 ? filter.x[2 * k + (U - 1)] : filter.x[2 * k]);
    }
  }

  for (int64_t n = blockIdx.z; n < s.outer; n += gridDim.z) {
    load_tile<Shape, T, Box, Last>(in, tile, s, n, y0, x0, c0);
    __syncthreads();
    float rows[kMeet][V];
    int have = 0;  // rows of the tile that were filtered along x
    const auto push = [&] {
#pragma unroll
      for (int r = 0; r + 1 < kMeet; ++r) {
#pragma unroll
        for (int v = 0; v < V; ++v) rows[r][v] = rows[r + 1][v];
      }
      const int shift = Last ? 0 : row_shift<Box::kVector>((n * s.y.in + y0 + have) * s.x.in + x0);
      const T* row = tile + have * Box::kPitch + shift;
#pragma unroll
      for (int v = 0; v < V; ++v) rows[kMeet - 1][v] = 0;
#pragma unroll
      for (int k = 0; k < kMeet; ++k) {
        float line[V];
        if (Last) {
          load<T, V>(row + at[0] + k * Box::kChunk, line);
        } else {
#pragma unroll
          for (int v = 0; v < V; ++v) line[v] = widen(row[at[v] + k]);
        }
#pragma unroll
        for (int v = 0; v < V; ++v) rows[kMeet - 1][v] += gx[v][k] * line[v];
      }
      ++have;
    };
    const int x = first_o + ox;
    T* target = out + ((n * s.y.out + first_row) * s.x.out + x) * s.inner + c0 + c;
    const int64_t step = int64_t(s.x.out) * s.inner;
    const int height = first_row + Box::kHeight < s.y.out ? Box::kHeight : s.y.out - first_row;
    if (x < s.x.out) {
      const bool pair = V == 2 && (Last || x + 1 < s.x.out);
#pragma unroll
      for (int r = 0; r < kMeet - 1; ++r) push();
#pragma unroll 4
      for (int o = 0; o < height; ++o) {
        while (have < sample_of<U, D>(o, tap_y) + kMeet) push();
        const int phase = U == 1 ? 0 : (tap_y + o) & 1;
        float result[V];
#pragma unroll
        for (int v = 0; v < V; ++v) {
          result[v] = 0;
#pragma unroll
          for (int k = 0; k < kMeet; ++k) result[v] += filter.y[U * k + phase] * rows[k][v];
        }
        // Pairs of half types lie at a multiple of 4 bytes in every second row where rows are odd.
        if (pair && (reinterpret_cast<uintptr_t>(target) & 3) == 0) {
          store<T, V>(target, result);
        } else {
          target[0] = narrow<T, float>(result[0]);
          if (pair) target[1] = narrow<T, float>(result[V - 1]);
        }
        target += step;
      }
    }
    __syncthreads();
  }
}

template <typename T, int Taps, int U, int D, bool Last>
void launch_tiles(const T* x, T* y, const Shape& s, const Axes& filter, cudaStream_t stream) {
  using Box = Tile<T, Taps, U, D, Last>;
  const int64_t chunks = Last ? s.inner / Box::kChunk : 1;
  const dim3 grid(unsigned(ceil_div(s.x.out, Box::kWidth) * chunks), unsigned(ceil_div(s.y.out, Box::kHeight)),
                  unsigned(std::min<int64_t>(s.outer, 65535)));
  tile_kernel<T, Taps, U, D, Last><<<grid, kThreads, 0, stream>>>(x, y, s, filter, int(chunks));
}

template <typename T, int Taps, int U, int D>
bool launch_layout(const T* x, T* y, const Shape& s, const Axes& filter, cudaStream_t stream) {
  if (!aligned16(x) || !aligned16(y) || ceil_div(s.y.out, 4) > 65535) return false;
  if (s.inner == 1) {
    launch_tiles<T, Taps, U, D, false>(x, y, s, filter, stream);
  } else if (s.inner % Tile<T, Taps, U, D, true>::kChunk == 0) {
    launch_tiles<T, Taps, U, D, true>(x, y, s, filter, stream);
  } else {
    return false;
  }
  return true;
}

// False where no kernel is made for this filter.
template <typename T, int Taps>
bool launch_taps(const T* x, T* y, const Shape& s, const Axes& filter, cudaStream_t stream) {
  if (s.y.up != s.x.up || s.y.down != s.x.down || s.y.taps != Taps || s.x.taps != Taps) return false;
  if (s.x.up == 1 && s.x.down == 1) return launch_layout<T, Taps, 1, 1>(x, y, s, filter, stream);
  if (s.x.up == 2 && s.x.down == 1) return launch_layout<T, Taps, 2, 1>(x, y, s, filter, stream);
  if (s.x.up == 1 && s.x.down == 2) return launch_layout<T, Taps, 1, 2>(x, y, s, filter, stream);
  return false;
}

}  // namespace
}  // namespace ops

using namespace ops;

int ops_cuda_upfirdn(int dtype, const void* x, void* y, const int64_t* sizes, const int* numbers, const float* gy,
                     const float* gx, void* stream) {
  Shape s;
  s.outer = sizes[0];
  s.inner = sizes[1];
  s.y = {int(sizes[2]), int(sizes[3]), numbers[0], numbers[2], numbers[4], numbers[6]};
  s.x = {int(sizes[4]), int(sizes[5]), numbers[1], numbers[3], numbers[5], numbers[7]};
  const int64_t total = s.outer * s.inner * s.y.out * s.x.out;
  if (total == 0) return 0;
  const bool separable = gy != nullptr;
  if (s.y.taps > kMaxTaps || s.x.taps > kMaxTaps || (!separable && s.y.taps * s.x.taps > kMaxTaps2d)) {
    return cudaErrorInvalidValue;
  }
  const auto st = static_cast<cudaStream_t>(stream);
  return with_dtype(dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const T* in = static_cast<const T*>(x);
    T* out = static_cast<T*>(y);
    if (!separable) {
      Filter filter;
      std::copy(gx, gx + s.y.taps * s.x.taps, filter.v);
      direct_kernel<T, Filter, false><<<grid_for(total), kThreads, 0, st>>>(in, out, s, filter, total);
      return;
    }
    Axes filter;
    std::copy(gy, gy + s.y.taps, filter.y);
    std::copy(gx, gx + s.x.taps, filter.x);
    const bool done = launch_taps<T, 4>(in, out, s, filter, st) || launch_taps<T, 12>(in, out, s, filter, st);
    if (!done) direct_kernel<T, Axes, true><<<grid_for(total), kThreads, 0, st>>>(in, out, s, filter, total);
  });
}
