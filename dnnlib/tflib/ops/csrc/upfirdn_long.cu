// upfirdn on GPUs for separable filters of any length, with factors of up to 4: a block brings a tile of the input to
// shared memory, filters it along x into shared memory, in float32, and that along y into the output.
//
// Of the outputs along an axis every `up`-th meets the same taps, and samples `down` apart. A thread makes kEach of
// them: it walks along the samples once, with the last few in registers, and loads a tap once for all.
#include "cuda_upfirdn.cuh"

namespace ops {
namespace {

constexpr int kLongThreads = 256;
constexpr int kEach = 4;       // outputs of one thread
constexpr int kFactor = 4;     // the largest
constexpr int kTable = 48;     // taps of one axis in order of phases, each phase filled up to a multiple of 4
constexpr int kLeast = 64;     // outputs of a tile: below, most threads of a block would have nothing to do
constexpr int64_t kSharedBytes = 48 << 10;

// One axis of a tile.
struct Extent {
  int out, in;  // numbers of outputs, a multiple of kEach * up, and of samples that they meet
};

struct TileShape {
  Extent y, x;
  int pitch, mid_pitch;  // columns from row to row, in the tile and in what is filtered along x
  int chunks;            // of channels
};

inline int most_taps(const ResamplingAxis& a) { return (a.taps + a.up - 1) / a.up; }  // of one output

OPS_HD int table_pitch(const ResamplingAxis& a) { return ((a.taps + a.up - 1) / a.up + 3) & ~3; }

inline Extent extent_of(const ResamplingAxis& a, int units) {
  const int out = kEach * a.up * units;
  return {out, ((out - 1) * a.down + a.up - 1) / a.up + most_taps(a)};
}

// Taps in order of phases. `table` holds kTable floats.
__device__ __forceinline__ void make_table(const ResamplingAxis& a, const float* filter, float* table) {
  for (int k = threadIdx.x; k < a.taps; k += kLongThreads) table[k % a.up * table_pitch(a) + k / a.up] = filter[k];
}

// sum[r] = sum over k < count of taps[k] * widen(samples[(r * D + k) * step]); no sample beyond the last is looked at.
template <int D, typename T>
__device__ __forceinline__ void walk(const T* samples, int step, const float* taps, int count, float* sum) {
  constexpr int kKept = (kEach - 1) * D, kMore = 4;
  float window[kKept + kMore];
#pragma unroll
  for (int r = 0; r < kEach; ++r) sum[r] = 0;
#pragma unroll
  for (int i = 0; i < kKept; ++i) window[i] = widen(samples[i * step]);
  samples += kKept * step;
  int k = 0;
  for (; k + kMore <= count; k += kMore, samples += kMore * step) {
    float tap[kMore];
    load<float, kMore>(taps + k, tap);
#pragma unroll
    for (int j = 0; j < kMore; ++j) window[kKept + j] = widen(samples[j * step]);
#pragma unroll
    for (int j = 0; j < kMore; ++j) {
#pragma unroll
      for (int r = 0; r < kEach; ++r) sum[r] += tap[j] * window[r * D + j];
    }
#pragma unroll
    for (int i = 0; i < kKept; ++i) window[i] = window[i + kMore];
  }
  for (; k < count; ++k, samples += step) {
    window[kKept] = widen(*samples);
#pragma unroll
    for (int r = 0; r < kEach; ++r) sum[r] += taps[k] * window[r * D];
#pragma unroll
    for (int i = 0; i < kKept; ++i) window[i] = window[i + 1];
  }
}

template <typename T>
__device__ __forceinline__ void walk(int down, const T* samples, int step, const float* taps, int count, float* sum) {
  switch (down) {
    case 1: return walk<1>(samples, step, taps, count, sum);
    case 2: return walk<2>(samples, step, taps, count, sum);
    case 3: return walk<3>(samples, step, taps, count, sum);
    default: return walk<4>(samples, step, taps, count, sum);
  }
}

// Makes the kEach outputs at o, o + up, ... of a tile whose first output is `first` and whose first sample is `begin`.
template <typename T>
__device__ __forceinline__ void walk_phase(const ResamplingAxis& a, int first, int begin, int o, const T* samples,
                                           int step, const float* table, float* sum) {
  int tap, sample;
  first_tap(a, first + o, &tap, &sample);
  const int count = tap < a.taps ? (a.taps - tap + a.up - 1) / a.up : 0;
  walk(a.down, samples + (sample - begin) * step, step, table + tap * table_pitch(a), count, sum);
}

// The first of the outputs that piece `j` of work along an axis makes.
__device__ __forceinline__ int first_of(int j, int up) { return j / up * (kEach * up) + j % up; }

// C: channels of a tile; planes have one.
template <typename T, int C>
__global__ void __launch_bounds__(kLongThreads)
    long_kernel(const T* __restrict__ in, T* __restrict__ out, UpfirdnShape s, TileShape t, Axes filter) {
  extern __shared__ float4 dynamic_shared[];
  __shared__ Vec<float, 4> table[2 * kTable / 4];
  float *const table_y = table[0].v, *const table_x = table[kTable / 4].v;
  float* const mid = reinterpret_cast<float*>(dynamic_shared);
  T* const tile = reinterpret_cast<T*>(mid + t.y.in * t.mid_pitch * C);
  make_table(s.y, filter.y, table_y);
  make_table(s.x, filter.x, table_x);

  const int64_t c0 = int64_t(blockIdx.x % t.chunks) * C;
  const int first_x = blockIdx.x / t.chunks * t.x.out, first_y = blockIdx.y * t.y.out;
  int tap, x0, y0;
  first_tap(s.x, first_x, &tap, &x0);
  first_tap(s.y, first_y, &tap, &y0);
  const int channels = s.inner - c0 < C ? int(s.inner - c0) : C;
  const int width = s.x.out - first_x, height = s.y.out - first_y;  // of what is left of the image

  for (int64_t n = blockIdx.z; n < s.outer; n += gridDim.z) {
    for (int r = threadIdx.x / 32; r < t.y.in; r += kLongThreads / 32) {
      const int y = y0 + r;
      const T* row = in + ((n * s.y.in + y) * s.x.in + x0) * s.inner + c0;
      const bool inside = y >= 0 && y < s.y.in;
#pragma unroll 4
      for (int i = threadIdx.x % 32; i < t.x.in * C; i += 32) {
        const int x = i / C, c = i % C;
        T value = T(0);
        if (inside && x0 + x >= 0 && x0 + x < s.x.in && c < channels) value = row[int64_t(x) * s.inner + c];
        tile[r * t.pitch * C + i] = value;
      }
    }
    __syncthreads();
    // Neighbouring threads take channels, then rows: the pitch keeps them off one another's banks.
    for (int i = threadIdx.x; i < t.y.in * C * (t.x.out / kEach); i += kLongThreads) {
      const int c = i % C, r = i / C % t.y.in, o = first_of(i / C / t.y.in, s.x.up);
      if (o >= width) continue;
      float sum[kEach];
      walk_phase(s.x, first_x, x0, o, tile + r * t.pitch * C + c, C, table_x, sum);
#pragma unroll
      for (int j = 0; j < kEach; ++j) mid[(r * t.mid_pitch + o + j * s.x.up) * C + c] = sum[j];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < t.x.out * C * (t.y.out / kEach); i += kLongThreads) {
      const int c = i % C, x = i / C % t.x.out, o = first_of(i / C / t.x.out, s.y.up);
      if (o >= height || x >= width || c >= channels) continue;
      float sum[kEach];
      walk_phase(s.y, first_y, y0, o, mid + x * C + c, t.mid_pitch * C, table_y, sum);
      T* target = out + ((n * s.y.out + first_y + o) * s.x.out + first_x + x) * s.inner + c0 + c;
#pragma unroll
      for (int j = 0; j < kEach; ++j) {
        if (o + j * s.y.up < height) target[int64_t(j) * s.y.up * s.x.out * s.inner] = narrow<T, float>(sum[j]);
      }
    }
    // The next tile overwrites the one that all have read; `mid` waits for the synchronisation after loading.
  }
}

// Columns from row to row: an odd number of words, or of pixels where they are longer, so that rows begin in all banks.
inline int odd_pitch(int columns, size_t pixel_bytes) {
  if (pixel_bytes >= 4) return columns | 1;
  const int each = int(4 / pixel_bytes);  // columns to a word
  return int(ceil_div(columns, each) | 1) * each;
}

// The tile that reads least for what it makes of the image; out 0: none fits.
template <typename T, int C>
TileShape choose_tile(const UpfirdnShape& s, int64_t* bytes) {
  TileShape best{};
  double least = 0;
  for (int a = 1; a <= 16 && (a == 1 || kEach * s.y.up * (a - 1) < s.y.out); ++a) {
    for (int b = 1; b <= 32 && (b == 1 || kEach * s.x.up * (b - 1) < s.x.out); ++b) {
      TileShape t{extent_of(s.y, a), extent_of(s.x, b), 0, 0, 1};
      t.pitch = odd_pitch(t.x.in, C * sizeof(T));
      t.mid_pitch = odd_pitch(t.x.out, C * sizeof(float));
      const int64_t size = int64_t(t.y.in) * C * (t.pitch * sizeof(T) + t.mid_pitch * sizeof(float));
      const int64_t tables = 2 * kTable * sizeof(float);
      if (size + tables > kSharedBytes || t.y.out * t.x.out * C < kLeast) continue;
      // Loads, and products along x and y, of all tiles; several blocks on a multiprocessor hide what one waits for.
      const double tiles = double(ceil_div(s.y.out, t.y.out)) * double(ceil_div(s.x.out, t.x.out));
      const double work = 4.0 * t.y.in * t.x.in + double(t.y.in) * t.x.out * most_taps(s.x) / kEach +
                          double(t.y.out) * t.x.out * most_taps(s.y) / kEach;
      const double cost = tiles * work * (size > kSharedBytes / 2 ? 1.2 : 1.0);
      if (best.y.out == 0 || cost < least) best = t, least = cost, *bytes = size;
    }
  }
  return best;
}

template <typename T, int C>
bool launch_channels(const T* x, T* y, const UpfirdnShape& s, const Axes& filter, cudaStream_t stream) {
  int64_t bytes = 0;
  TileShape t = choose_tile<T, C>(s, &bytes);
  if (t.y.out == 0 || ceil_div(s.y.out, t.y.out) > 65535) return false;
  const int64_t chunks = ceil_div(s.inner, C), blocks = ceil_div(s.x.out, t.x.out) * chunks;
  if (blocks > INT32_MAX) return false;
  t.chunks = int(chunks);
  const dim3 grid(unsigned(blocks), unsigned(ceil_div(s.y.out, t.y.out)), unsigned(std::min<int64_t>(s.outer, 65535)));
  long_kernel<T, C><<<grid, kLongThreads, bytes, stream>>>(x, y, s, t, filter);
  return true;
}

}  // namespace

template <typename T>
bool launch_long(const T* x, T* y, const UpfirdnShape& s, const Axes& filter, cudaStream_t stream) {
  for (const ResamplingAxis* a : {&s.y, &s.x}) {
    if (a->up > kFactor || a->down > kFactor) return false;
  }
  if (s.inner == 1) return launch_channels<T, 1>(x, y, s, filter, stream);
  // 32 bytes are the least that memory moves; tiles of the longest filters hold half of that.
  return launch_channels<T, 32 / sizeof(T)>(x, y, s, filter, stream) ||
         launch_channels<T, 16 / sizeof(T)>(x, y, s, filter, stream);
}

#define OPS_INSTANTIATE(T) \
  template bool launch_long(const T*, T*, const UpfirdnShape&, const Axes&, cudaStream_t);
OPS_INSTANTIATE(float)
OPS_INSTANTIATE(Half)
OPS_INSTANTIATE(BFloat16)

}  // namespace ops
