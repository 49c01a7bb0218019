// upfirdn on GPUs. The filters of the networks (separable, 4 taps, one factor of 2 or none) go by tiles: a block brings
// a tile of the input to shared memory in vectors of 16 bytes, all loads under way together; then every thread walks
// down a column and keeps the rows it has filtered along x in registers. Other separable filters: upfirdn_long.cu. What
// is left takes a direct sum.
#include "cuda_upfirdn.cuh"

namespace ops {
namespace {

struct Filter {
  float v[kMaxTaps2d];
};
using Shape = UpfirdnShape;

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

constexpr int kTileThreads = 128;

// The tile of a block. U, D: factors, one of them 1. Last: channels last, a tile holds kChunk channels of its pixels.
template <typename T, int Taps, int U, int D, bool Last>
struct Tile {
  static constexpr int kVector = 16 / sizeof(T);              // numbers of one load
  static constexpr int kEach = 8 / sizeof(T);                 // outputs of one thread in one row
  static constexpr int kChunk = Last ? 64 / sizeof(T) : 1;
  static constexpr int kWidth = kTileThreads * kEach / kChunk;  // output pixels; even, as phases of U == 2 need
  static constexpr int kHeight = U == 2 ? 32 : (D == 1 ? 16 : 8);
  static constexpr int kMeet = Taps / U;                      // input rows (and columns) that meet one output
  static constexpr int kColumns = U == 2 ? kWidth / 2 + kMeet : (kWidth - 1) * D + kMeet;
  static constexpr int kRows = U == 2 ? kHeight / 2 + kMeet : (kHeight - 1) * D + kMeet;
  static constexpr int kVectors = (kColumns * kChunk + (Last ? 0 : kVector - 1) + kVector - 1) / kVector;  // of a row
  static constexpr int kPitch = kVectors * kVector;
};

// Where the samples of output `o` of a tile begin; the tile begins at an even output whose first tap is `tap`.
template <int U, int D>
OPS_HD constexpr int sample_of(int o, int tap) {
  return U == 1 ? o * D : (o + (tap == 0)) / 2;
}

// Rows of planes need not begin at a multiple of 16 bytes: a row of the tile begins at the multiple before its first
// sample, and this says how many numbers before.
template <int V>
__device__ __forceinline__ int row_shift(int64_t first) {
  return static_cast<int>(first & (V - 1));
}

// Brings rows [y0, y0 + kRows) from column x0 on (channels from c0 on) to `tile`, zeros outside of the image. Loads
// come in batches, so that many are under way before the first is waited for.
template <typename T, typename Box, bool Last>
__device__ __forceinline__ void load_tile(const T* in, T* tile, const Shape& s, int64_t n, int y0, int x0, int64_t c0) {
  constexpr int V = Box::kVector, kTotal = Box::kRows * Box::kVectors, kBatch = 4;
  constexpr int kPerPixel = Last ? Box::kChunk / V : 1;
  for (int begin = threadIdx.x; begin < kTotal; begin += kBatch * kTileThreads) {
    Vec<T, V> value[kBatch];
    int left[kBatch];  // column of the first number, where the vector lies partly inside
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const int i = begin + b * kTileThreads, r = i / Box::kVectors, q = i - r * Box::kVectors, y = y0 + r;
      const int64_t row = (n * s.y.in + y) * s.x.in;
      const int x = Last ? x0 + q / kPerPixel : x0 - row_shift<V>(row + x0) + q * V;
      const bool row_inside = i < kTotal && y >= 0 && y < s.y.in;
      const bool inside = row_inside && x >= 0 && x + (Last ? 1 : V) <= s.x.in;
#pragma unroll
      for (int j = 0; j < V; ++j) value[b].v[j] = T(0);
      const T* source = Last ? in + (row + x) * s.inner + c0 + q % kPerPixel * V : in + row + x;
      if (inside) value[b] = *reinterpret_cast<const Vec<T, V>*>(source);
      left[b] = !Last && row_inside && !inside && x > -V && x < s.x.in ? x : -V;
    }
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const int i = begin + b * kTileThreads, r = i / Box::kVectors;
      if (i >= kTotal) break;
      if (!Last && left[b] > -V) {
        const T* row = in + (n * s.y.in + y0 + r) * s.x.in;
#pragma unroll
        for (int j = 0; j < V; ++j) {
          if (left[b] + j >= 0 && left[b] + j < s.x.in) value[b].v[j] = row[left[b] + j];
        }
      }
      *reinterpret_cast<Vec<T, V>*>(tile + i * V) = value[b];
    }
  }
}

template <typename T, int Taps, int U, int D, bool Last>
__global__ void __launch_bounds__(kTileThreads) tile_kernel(const T* __restrict__ in, T* __restrict__ out, Shape s, Axes filter, int chunks) {
  using Box = Tile<T, Taps, U, D, Last>;
  constexpr int V = Box::kEach, kMeet = Box::kMeet;
  constexpr int kSpan = U == 1 ? (V - 1) * D + kMeet : V / 2 + kMeet;  // input columns of V outputs
  __shared__ Vec<T, Box::kVector> storage[Box::kRows * Box::kVectors];
  T* const tile = reinterpret_cast<T*>(storage);
  const int64_t c0 = int64_t(blockIdx.x % chunks) * Box::kChunk;
  const int first_o = blockIdx.x / chunks * Box::kWidth, first_row = blockIdx.y * Box::kHeight;
  int tap_x, x0, tap_y, y0;
  first_tap(s.x, first_o, &tap_x, &x0);
  first_tap(s.y, first_row, &tap_y, &y0);

  const int c = Last ? threadIdx.x * V % Box::kChunk : 0;
  const int ox = Last ? threadIdx.x * V / Box::kChunk : threadIdx.x * V;  // within the tile
  // Planes: columns of an even output on; channels last: those of the pixel.
  const int at = Last ? sample_of<U, D>(ox, tap_x) * Box::kChunk + c : (U == 2 ? ox / 2 : ox * D);
  float gx[U][kMeet];  // of even and odd outputs of the thread
#pragma unroll
  for (int u = 0; u < U; ++u) {
#pragma unroll
    for (int k = 0; k < kMeet; ++k) {
      gx[u][k] = U == 1 ? filter.x[k] : ((tap_x + ox + u) & 1 ? filter.x[2 * k + U - 1] : filter.x[2 * k]);
    }
  }
  const int x = first_o + ox, height = s.y.out - first_row;
  const int64_t step = int64_t(s.x.out) * s.inner;
  const bool whole = Last || (s.x.out % V == 0);  // all outputs of a thread lie in the image, and at a multiple of V

  for (int64_t n = blockIdx.z; n < s.outer; n += gridDim.z) {
    load_tile<T, Box, Last>(in, tile, s, n, y0, x0, c0);
    __syncthreads();
    const int64_t first_number = (n * s.y.in + y0) * s.x.in + x0;
    const auto filter_row = [&](int r, float* sum) {
      const T* row = tile + r * Box::kPitch + at;
      if (!Last) row += row_shift<Box::kVector>(first_number + int64_t(r) * s.x.in);
#pragma unroll
      for (int v = 0; v < V; ++v) sum[v] = 0;
      if constexpr (Last) {
#pragma unroll
        for (int k = 0; k < kMeet; ++k) {
          float line[V];
          load<T, V>(row + k * Box::kChunk, line);
#pragma unroll
          for (int v = 0; v < V; ++v) sum[v] += gx[0][k] * line[v];
        }
      } else {
        float line[kSpan];
#pragma unroll
        for (int k = 0; k < kSpan; ++k) line[k] = widen(row[k]);
#pragma unroll
        for (int v = 0; v < V; ++v) {
#pragma unroll
          for (int k = 0; k < kMeet; ++k) {
            if constexpr (U == 1) {
              sum[v] += gx[0][k] * line[v * D + k];
            } else {
              sum[v] += gx[v % U][k] * (tap_x == 0 ? line[(v + 1) / 2 + k] : line[v / 2 + k]);
            }
          }
        }
      }
    };
    // All indices are known to the compiler: the window of filtered rows stays in registers and nothing moves.
    T* target = out + ((n * s.y.out + first_row) * s.x.out + x) * s.inner + c0 + c;
    const auto walk = [&](auto tap) {
      constexpr int kTap = decltype(tap)::value;
      float window[kMeet][V];
#pragma unroll
      for (int r = 0; r + 1 < kMeet; ++r) filter_row(r, window[r]);
#pragma unroll
      for (int o = 0; o < Box::kHeight; ++o) {
        const int first = sample_of<U, D>(o, kTap), phase = U == 1 ? 0 : (kTap + o) & 1;
        const int known = o == 0 ? kMeet - 1 : sample_of<U, D>(o - 1, kTap) + kMeet;
#pragma unroll
        for (int r = known; r < first + kMeet; ++r) filter_row(r, window[r % kMeet]);
        float result[V];
#pragma unroll
        for (int v = 0; v < V; ++v) {
          result[v] = 0;
#pragma unroll
          for (int k = 0; k < kMeet; ++k) result[v] += filter.y[U * k + phase] * window[(first + k) % kMeet][v];
        }
        if (o < height) {
          if (whole) {
            store<T, V>(target, result);
          } else {
#pragma unroll
            for (int v = 0; v < V; ++v) {
              if (x + v < s.x.out) target[v] = narrow<T, float>(result[v]);
            }
          }
        }
        target += step;
      }
    };
    if (x < s.x.out) {
      if (U == 1 || tap_y == 0) {
        walk(std::integral_constant<int, 0>());
      } else {
        walk(std::integral_constant<int, U - 1>());
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
  tile_kernel<T, Taps, U, D, Last><<<grid, kTileThreads, 0, stream>>>(x, y, s, filter, int(chunks));
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
    const bool done = launch_taps<T, 4>(in, out, s, filter, st) || launch_long(in, out, s, filter, st);
    if (!done) direct_kernel<T, Axes, true><<<grid_for(total), kThreads, 0, st>>>(in, out, s, filter, total);
  });
}
