// upfirdn on GPUs. The filters of the networks (separable, 4 taps, one factor of 2 or none) go by tiles: a block brings
// a tile of the input to shared memory in vectors of 16 bytes, all loads under way together; then every thread walks
// down a column and keeps the rows it has filtered along x in registers. Other separable filters: upfirdn_long.cu. What
// is left takes a direct sum.
#include "cuda_tile.cuh"

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

template <typename T, int U, int D, bool Last>
__global__ void __launch_bounds__(kTileThreads, Tile<T, U, D, Last>::kBlocks)
    tile_kernel(const T* __restrict__ in, T* __restrict__ out, Shape s, Axes filter, int chunks) {
  using Box = Tile<T, U, D, Last>;
  constexpr int V = Box::kEach, kMeet = Box::kMeet;
  __shared__ Vec<T, Box::kVector> storage[Box::kRows * Box::kVectors];
  T* const tile = reinterpret_cast<T*>(storage);
  const int64_t c0 = int64_t(blockIdx.x % chunks) * Box::kChunk;
  const int first_o = blockIdx.x / chunks * Box::kWidth, first_row = blockIdx.y * Box::kHeight;
  int tap_x, x0, tap_y, y0;
  first_tap(s.x, first_o, &tap_x, &x0);
  first_tap(s.y, first_row, &tap_y, &y0);

  const int across = threadIdx.x % Box::kAcross, down = threadIdx.x / Box::kAcross;
  const int c = Last ? across * V % Box::kChunk : 0;
  const int ox = Last ? across * V / Box::kChunk : across * V, oy = down * Box::kWalk;  // within the tile
  // Planes: columns of an even output on; channels last: those of the pixel.
  const int at = Last ? sample_of<U, D>(ox, tap_x) * Box::kChunk + c : across * Box::kStride;
  const int above = U == 2 ? oy / 2 : oy * D;  // rows of the tile before those of the thread
  float gx[U][kMeet];  // of even and odd outputs of the thread
#pragma unroll
  for (int u = 0; u < U; ++u) {
#pragma unroll
    for (int k = 0; k < kMeet; ++k) {
      gx[u][k] = U == 1 ? filter.x[k] : ((tap_x + ox + u) & 1 ? filter.x[2 * k + U - 1] : filter.x[2 * k]);
    }
  }
  const int x = first_o + ox, height = s.y.out - first_row - oy;
  const int64_t step = int64_t(s.x.out) * s.inner;
  const bool whole = Last || (s.x.out % V == 0);  // all outputs of a thread lie in the image, and at a multiple of V

  for (int64_t n = blockIdx.z; n < s.outer; n += gridDim.z) {
    load_tile<T, Box, Last>(in, tile, s, n, y0, x0, c0);
    Copy16::wait();
    __syncthreads();
    if (!Last && x0 < Box::kVector) {
      mend_left_edge<T, Box>(in, tile, s, n, y0, x0);
      __syncthreads();
    }
    const int64_t first_number = (n * s.y.in + y0) * s.x.in + x0;
    const auto filter_row = [&](int r, float* sum) {
      const T* row = tile + r * Box::kPitch;
#pragma unroll
      for (int v = 0; v < V; ++v) sum[v] = 0;
      if constexpr (Last) {
#pragma unroll
        for (int k = 0; k < kMeet; ++k) {
          float line[V];
          load<T, V>(row + at + k * Box::kChunk, line);
#pragma unroll
          for (int v = 0; v < V; ++v) sum[v] += gx[0][k] * line[v];
        }
      } else {
        float line[Box::kSpan];
        const int start = at + row_shift<Box::kVector>(first_number + int64_t(r) * s.x.in);
        read_line<T, Box::kGroup, Box::kLoads, Box::kSpan>(row, start, line);
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
    T* target = out + ((n * s.y.out + first_row + oy) * s.x.out + x) * s.inner + c0 + c;
    const auto walk = [&](auto tap) {
      constexpr int kTap = decltype(tap)::value;
      float window[kMeet][V];
#pragma unroll
      for (int r = 0; r + 1 < kMeet; ++r) filter_row(above + r, window[r]);
#pragma unroll
      for (int o = 0; o < Box::kWalk; ++o) {
        const int first = sample_of<U, D>(o, kTap), phase = U == 1 ? 0 : (kTap + o) & 1;
        const int known = o == 0 ? kMeet - 1 : sample_of<U, D>(o - 1, kTap) + kMeet;
#pragma unroll
        for (int r = 0; r < D; ++r) {  // a number of rounds that the compiler sees at once
          if (known + r < first + kMeet) filter_row(above + known + r, window[(known + r) % kMeet]);
        }
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
    if (x < s.x.out && height > 0 && (!Last || c0 + c < s.inner)) {
      if (U == 1 || tap_y == 0) {
        walk(std::integral_constant<int, 0>());
      } else {
        walk(std::integral_constant<int, U - 1>());
      }
    }
    __syncthreads();
  }
}

template <typename T, int U, int D, bool Last>
void launch_tiles(const T* x, T* y, const Shape& s, const Axes& filter, cudaStream_t stream) {
  using Box = Tile<T, U, D, Last>;
  const int64_t chunks = Last ? ceil_div(s.inner, Box::kChunk) : 1;
  const dim3 grid(unsigned(ceil_div(s.x.out, Box::kWidth) * chunks), unsigned(ceil_div(s.y.out, Box::kHeight)),
                  unsigned(std::min<int64_t>(s.outer, 65535)));
  tile_kernel<T, U, D, Last><<<grid, kTileThreads, 0, stream>>>(x, y, s, filter, int(chunks));
}

template <typename T, int U, int D>
bool launch_layout(const T* x, T* y, const Shape& s, const Axes& filter, cudaStream_t stream) {
  if (!aligned16(x) || !aligned16(y) || ceil_div(s.y.out, 4) > 65535) return false;
  if (s.inner == 1) {
    launch_tiles<T, U, D, false>(x, y, s, filter, stream);
  } else if (s.inner % Tile<T, U, D, true>::kVector == 0) {
    launch_tiles<T, U, D, true>(x, y, s, filter, stream);
  } else {
    return false;
  }
  return true;
}

// False where no kernel is made for this filter.
template <typename T>
bool launch_short(const T* x, T* y, const Shape& s, const Axes& filter, cudaStream_t stream) {
  if (s.y.up != s.x.up || s.y.down != s.x.down || s.y.taps != kTaps || s.x.taps != kTaps) return false;
  if (s.x.up == 1 && s.x.down == 1) return launch_layout<T, 1, 1>(x, y, s, filter, stream);
  if (s.x.up == 2 && s.x.down == 1) return launch_layout<T, 2, 1>(x, y, s, filter, stream);
  if (s.x.up == 1 && s.x.down == 2) return launch_layout<T, 1, 2>(x, y, s, filter, stream);
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
    const bool done = launch_short(in, out, s, filter, st) || launch_long(in, out, s, filter, st);
    if (!done) direct_kernel<T, Axes, true><<<grid_for(total), kThreads, 0, st>>>(in, out, s, filter, total);
  });
}
