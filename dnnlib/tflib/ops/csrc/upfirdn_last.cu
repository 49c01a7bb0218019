// The short filters of upfirdn for images whose channels come last. A warp has 64 bytes of channels of a few pixels and
// walks down their rows, which come to a ring in shared memory some steps ahead; a thread has 8 bytes of channels of
// neighbouring outputs.
#include "cuda_short.cuh"

namespace ops {
namespace {

constexpr int kLastThreads = 128;
constexpr int kChunkBytes = 64, kVectorBytes = 8;

struct LastPlan {
  unsigned chunks, tiles, segments;  // of channels, of columns, of rows
  int walk;                          // rows of the output in a segment
  int first_x, first_y;              // samples where pairs of outputs begin, for factor 2
};

// U, D: factors. P: neighbouring outputs of a thread.
template <typename T, int U, int D, int P>
__global__ void __launch_bounds__(kLastThreads)
    last_kernel(const T* __restrict__ in, T* __restrict__ out, UpfirdnShape s, Axes filter, LastPlan plan) {
  constexpr int kMeet = kTaps / U;
  constexpr int kAcross = kChunkBytes / kVectorBytes, kGroups = 32 / kAcross;  // threads of a pixel; groups of pixels
  constexpr int V = kVectorBytes / sizeof(T), kWords = kVectorBytes / 4, kEach = Packed<T>::kEach;
  constexpr int kIn = U == 1 ? (P - 1) * D + kTaps : P / 2 + 1;          // samples that the outputs of a thread meet
  constexpr int kStep = P * D / U;                                       // samples from group to group
  constexpr int kPixels = (kGroups - 1) * kStep + kIn;                   // samples of a warp
  // Bytes from pixel to pixel: groups that are read at once begin in different banks.
  constexpr int kPixel = kStep % 4 == 0 ? 80 : 96;
  constexpr int kCopies = (kPixels + 7) / 8;                             // of 16 bytes, of a thread
  __shared__ Vec<uint32_t, 4> storage[kLastThreads / 32 * kRing * kPixels * kPixel / 16];

  const int lane = threadIdx.x & 31;
  char* const ring = reinterpret_cast<char*>(storage) + (threadIdx.x >> 5) * (kRing * kPixels * kPixel);
  const unsigned warp = blockIdx.x * (kLastThreads / 32) + (threadIdx.x >> 5);
  const unsigned chunk = warp % plan.chunks, tile = warp / plan.chunks % plan.tiles;
  const unsigned rest = warp / plan.chunks / plan.tiles, segment = rest % plan.segments;
  const int64_t n = rest / plan.segments;
  if (n >= s.outer) return;
  const int x0 = U == 1 ? int(tile) * (kGroups * P) * D - s.x.pad : plan.first_x + int(tile) * (kGroups * P / 2);
  const int y0 = U == 1 ? int(segment) * plan.walk * D - s.y.pad : plan.first_y + int(segment) * (plan.walk / 2);
  const int oy = U == 1 ? int(segment) * plan.walk : 2 * y0 - 1 + s.y.pad;
  const int rows = s.y.out - oy < plan.walk ? s.y.out - oy : plan.walk;
  const int needed = U == 1 ? (rows - 1) * D + kTaps : (rows + 1) / 2 + 1;  // rows of the input
  const int inner = int(s.inner), c0 = int(chunk) * (kChunkBytes / int(sizeof(T)));

  // Four threads copy a pixel.
  const int part = c0 + (lane & 3) * (16 / int(sizeof(T))), pixel = lane >> 2;
  const T* from = in + ((n * s.y.in + y0) * s.x.in + x0 + pixel) * inner + part;
  bool there[kCopies];
#pragma unroll
  for (int i = 0; i < kCopies; ++i) there[i] = part < inner && unsigned(x0 + pixel + 8 * i) < unsigned(s.x.in);
  int copied = 0;
  const auto copy_row = [&](int slot) {
    if (copied < needed) {
      const bool row_there = unsigned(y0 + copied) < unsigned(s.y.in);
#pragma unroll
      for (int i = 0; i < kCopies; ++i) {
        if (8 * (i + 1) > kPixels && pixel + 8 * i >= kPixels) break;
        copy16(ring + (slot * kPixels + pixel + 8 * i) * kPixel + (lane & 3) * 16, from + 8 * i * inner,
               row_there && there[i] ? 16 : 0);
      }
    }
    end_copies();
    ++copied;
    from += int64_t(s.x.in) * inner;
  };

  const int group = lane / kAcross, c = c0 + lane % kAcross * V;
  const char* const place = ring + group * kStep * kPixel + lane % kAcross * kVectorBytes;
  float window[kMeet][P][V];
  const auto filter_row = [&](auto r) {
    constexpr int kSlot = decltype(r)::value % kRing;
    auto& line = window[decltype(r)::value % kMeet];
    wait_for_copies<kRing - 2>();
    __syncwarp();  // what all threads have copied is there, and the row before is no longer needed
    copy_row((kSlot + kRing - 1) % kRing);
    Vec<uint32_t, kWords> raw[kIn];
#pragma unroll
    for (int j = 0; j < kIn; ++j) {
      raw[j] = *reinterpret_cast<const Vec<uint32_t, kWords>*>(place + (kSlot * kPixels + j) * kPixel);
    }
#pragma unroll
    for (int j = 0; j < kIn; ++j) {
      float wide[V];
#pragma unroll
      for (int v = 0; v < V; ++v) wide[v] = Packed<T>::get(raw[j].v[v / kEach], v % kEach);
#pragma unroll
      for (int p = 0; p < P; ++p) {
        const int k = U == 1 ? j - p * D : j - p / 2;  // of the samples of the output
        if (k < 0 || k >= kMeet) continue;
        const float tap = filter.x[U == 1 ? k : 2 * k + (p % 2 == 0)];
#pragma unroll
        for (int v = 0; v < V; ++v) line[p][v] = k == 0 ? tap * wide[v] : line[p][v] + tap * wide[v];
      }
    }
  };

  const int ox = (U == 1 ? int(tile) * (kGroups * P) : 2 * x0 - 1 + s.x.pad) + group * P;
  T* target = out + ((n * s.y.out + oy) * s.x.out + ox) * inner + c;
  const auto emit = [&](auto r, int phase) {
    constexpr int kOldest = decltype(r)::value + 1;  // of the rows in the window
#pragma unroll
    for (int p = 0; p < P; ++p) {
      float sum[V];
#pragma unroll
      for (int v = 0; v < V; ++v) {
        sum[v] = filter.y[phase] * window[kOldest % kMeet][p][v];
#pragma unroll
        for (int k = 1; k < kMeet; ++k) sum[v] += filter.y[U * k + phase] * window[(kOldest + k) % kMeet][p][v];
      }
      Vec<uint32_t, kWords> value;
#pragma unroll
      for (int w = 0; w < kWords; ++w) {
        if constexpr (kEach == 1) {
          value.v[w] = float_bits(sum[w]);
        } else {
          value.v[w] = pack_two<T>(sum[2 * w], sum[2 * w + 1]);
        }
      }
      if (c < inner && unsigned(ox + p) < unsigned(s.x.out)) {
        *reinterpret_cast<Vec<uint32_t, kWords>*>(target + p * inner) = value;
      }
    }
    target += int64_t(s.x.out) * inner;
  };
#pragma unroll
  for (int r = 0; r < kRing - 1; ++r) copy_row(r);
  walk_rows<U, D>(oy, rows, filter_row, emit, [&] { target += int64_t(s.x.out) * inner; });
}

}  // namespace

template <typename T, int U, int D>
bool launch_last(const T* x, T* y, const UpfirdnShape& s, const Axes& filter, cudaStream_t stream) {
  constexpr int P = 4 / D, kStep = U == 2 ? 8 : 4 / D;
  constexpr int kWide = 32 / (kChunkBytes / kVectorBytes) * P;
  if (s.inner * sizeof(T) % 16 != 0) return false;
  LastPlan plan{0, 0, 0, 0, first_pair(s.x), first_pair(s.y)};
  const int rows = U == 1 ? s.y.out : 2 * pairs_of(s.y);
  const int64_t chunks = ceil_div(s.inner * sizeof(T), kChunkBytes);
  const int64_t tiles = ceil_div(U == 1 ? s.x.out : 2 * pairs_of(s.x), kWide);
  plan.walk = walk_of(rows, kStep, chunks * tiles * 32 * s.outer);
  const int64_t segments = ceil_div(rows, plan.walk);
  const int64_t blocks = ceil_div(chunks * tiles * segments * s.outer, kLastThreads / 32);
  if (blocks > INT32_MAX / 4 || s.inner > INT32_MAX / 64) return false;
  plan.chunks = unsigned(chunks);
  plan.tiles = unsigned(tiles);
  plan.segments = unsigned(segments);
  last_kernel<T, U, D, P><<<unsigned(blocks), kLastThreads, 0, stream>>>(x, y, s, filter, plan);
  return true;
}

#define OPS_INSTANTIATE(T, U, D) \
  template bool launch_last<T, U, D>(const T*, T*, const UpfirdnShape&, const Axes&, cudaStream_t);
OPS_FOR_SHORT_FILTERS(OPS_INSTANTIATE)

}  // namespace ops
