// The short filters of upfirdn for planes. A warp has a strip of columns and walks down its rows, which come to a ring
// in shared memory some steps ahead; a thread has pairs of neighbouring outputs. Rows may begin anywhere in memory:
// they are copied from the multiple of 32 bytes before, and read as pairs of numbers, of which the samples may begin at
// the second.
#include "cuda_short.cuh"

namespace ops {
namespace {

constexpr int kPlaneThreads = 128;

struct PlanesPlan {
  unsigned tiles, segments;  // of a plane: strips of columns, pieces of rows
  int walk;                  // rows of the output in a piece
  int first_y;               // sample where pairs of rows begin, for factor 2
};

// Two neighbouring numbers as they lie in memory.
template <typename T>
__device__ __forceinline__ Vec<uint32_t, sizeof(T) / 2> pair_of(const float* v) {
  if constexpr (sizeof(T) == 4) {
    return {{float_bits(v[0]), float_bits(v[1])}};
  } else {
    return {{pack_two<T>(v[0], v[1])}};
  }
}
template <typename T, int N>
__device__ __forceinline__ T first_of(const Vec<uint32_t, N>& pair) {
  if constexpr (N == 2) {
    return bits_float(pair.v[0]);
  } else {
    return T(uint16_t(pair.v[0]));
  }
}

// The pair, or its second number and the first of the next thread's.
template <int N>
__device__ __forceinline__ Vec<uint32_t, N> shifted_pair(const Vec<uint32_t, N>& pair, int shifted) {
  const uint32_t next = __shfl_down_sync(0xffffffffu, pair.v[0], 1);
  if constexpr (N == 1) {
    return {{__funnelshift_r(pair.v[0], next, shifted ? 16 : 0)}};
  } else {
    return {{shifted ? pair.v[1] : pair.v[0], shifted ? next : pair.v[1]}};
  }
}

// U, D: factors. Units: pairs of outputs of a thread, 64 columns apart. OddOut: rows of the output have an odd length.
template <typename T, int U, int D, int Units, bool OddOut>
__global__ void __launch_bounds__(kPlaneThreads)
    planes_kernel(const T* __restrict__ in, T* __restrict__ out, UpfirdnShape s, Axes filter, PlanesPlan plan) {
  constexpr bool kHalf = sizeof(T) == 2;
  constexpr int kMeet = kTaps / U;
  constexpr int kIn = U == 1 ? D + kTaps : 3, kPairs = kIn / 2 + 1;  // samples that a pair of outputs meets; in pairs
  // Columns of a unit. Where rows of the output may begin in the middle of a pair, the last thread only computes what
  // the one before it stores.
  constexpr int kWide = OddOut ? 62 : 64;
  constexpr int kStep = kWide * D / U;                                // samples from unit to unit
  constexpr int kVector = 16 / sizeof(T);
  constexpr int kAlign = 32 / sizeof(T);  // rows are copied from a multiple of what memory moves at least
  constexpr int kSamples = (kWide * (Units - 1) + 62) * D / U + 2 * kPairs - 1;
  constexpr int kChunks = (kSamples + kAlign - 1 + kVector - 1) / kVector, kPitch = kChunks * kVector;
  using Pair = Vec<uint32_t, kHalf ? 1 : 2>;
  __shared__ Vec<T, kVector> storage[kPlaneThreads / 32 * kRing * kChunks];

  const int lane = threadIdx.x & 31;
  T* const ring = reinterpret_cast<T*>(storage + (threadIdx.x >> 5) * (kRing * kChunks));
  const unsigned warp = blockIdx.x * (kPlaneThreads / 32) + (threadIdx.x >> 5);
  const unsigned tile = warp % plan.tiles, rest = warp / plan.tiles, segment = rest % plan.segments;
  const int64_t n = rest / plan.segments;
  if (n >= s.outer) return;
  const int first = int(tile) * (kWide * Units);
  const int y0 = U == 1 ? int(segment) * plan.walk * D - s.y.pad : plan.first_y + int(segment) * (plan.walk / 2);
  const int oy = U == 1 ? int(segment) * plan.walk : 2 * y0 - 1 + s.y.pad;
  const int rows = s.y.out - oy < plan.walk ? s.y.out - oy : plan.walk;
  const int needed = U == 1 ? (rows - 1) * D + kTaps : (rows + 1) / 2 + 1;  // rows of the input
  int tap_x, x0;  // of the strip; even outputs meet the same taps
  first_tap(s.x, first, &tap_x, &x0);
  float gx[2][kMeet];
#pragma unroll
  for (int u = 0; u < 2; ++u) {
#pragma unroll
    for (int k = 0; k < kMeet; ++k) {
      gx[u][k] = U == 1 ? filter.x[k] : ((tap_x + u) & 1 ? filter.x[2 * k + 1] : filter.x[2 * k]);
    }
  }

  // Numbers are counted from such a multiple before the plane's first.
  const int64_t source = n * s.y.in * s.x.in;
  const T* const plane = in + (source & ~int64_t(kAlign - 1));
  const int before = int(source & (kAlign - 1));
  const bool inside = x0 >= kAlign && x0 + kPitch <= s.x.in && y0 >= 0 && y0 + needed <= s.y.in;
  int from = before + y0 * s.x.in + x0, copied = 0;
  const auto copy_row = [&](int slot) {
    if (copied < needed) {
      const int shift = from & (kAlign - 1);
      const T* const row = plane + (from - shift) + lane * kVector;
      T* const to = ring + slot * kPitch + lane * kVector;
      if (inside) {
#pragma unroll
        for (int i = 0; i < kChunks; i += 32) {
          if (i + 32 <= kChunks || lane < kChunks - i) copy16(to + i * kVector, row + i * kVector, 16);
        }
      } else {
        // Numbers that exist, from the first of a vector on; those before column 0 are put right when the row is there.
        const bool there = unsigned(y0 + copied) < unsigned(s.y.in);
#pragma unroll
        for (int i = 0; i < kChunks; i += 32) {
          const int x = x0 - shift + (lane + i) * kVector, left = s.x.in - x < kVector ? s.x.in - x : kVector;
          const int bytes = there && x > -kVector && left > 0 ? left * int(sizeof(T)) : 0;
          if (i + 32 <= kChunks || lane < kChunks - i) copy16(to + i * kVector, row + i * kVector, bytes);
        }
      }
    }
    end_copies();
    ++copied;
    from += s.x.in;
  };

  float window[kMeet][Units][2];
  int begins = before + y0 * s.x.in + x0;  // the first sample of the strip in the next row
  const auto filter_row = [&](auto r) {
    constexpr int kSlot = decltype(r)::value % kRing;
    auto& line = window[decltype(r)::value % kMeet];
    wait_for_copies<kRing - 2>();
    __syncwarp();  // what all threads have copied is there, and the row before is no longer needed
    copy_row((kSlot + kRing - 1) % kRing);
    const int shift = begins & (kAlign - 1);
    begins += s.x.in;
    T* const row = ring + kSlot * kPitch;
    if (x0 < 0) {  // of the vector that holds column 0, what lies before it
      const int zero = shift - x0;
      if (zero % kVector > lane && zero < kPitch) row[zero - 1 - lane] = T(0);
      __syncwarp();
    }
    const int at = shift + (U == 1 ? 2 * D * lane : lane);
#pragma unroll
    for (int u = 0; u < Units; ++u) {
      // An even step is a whole number of pairs: one address does for all units.
      constexpr int kEven = kStep & ~1;
      const int begin = at + (kStep % 2 ? u : 0);
      const bool odd = begin & 1;
      const Pair* const pairs = reinterpret_cast<const Pair*>(row) + (begin >> 1) + u * (kEven / 2);
      Pair raw[kPairs];
#pragma unroll
      for (int i = 0; i < kPairs; ++i) raw[i] = pairs[i];
      float v[kIn];
#pragma unroll
      for (int i = 0; i < kIn; ++i) {
        if constexpr (kHalf) {
          const uint32_t next = i / 2 + 1 < kPairs ? raw[i / 2 + 1].v[0] : 0;
          v[i] = Packed<T>::get(__funnelshift_r(raw[i / 2].v[0], next, odd ? 16 : 0), i % 2);
        } else {
          v[i] = bits_float(odd ? raw[(i + 1) / 2].v[(i + 1) % 2] : raw[i / 2].v[i % 2]);
        }
      }
#pragma unroll
      for (int o = 0; o < 2; ++o) {
#pragma unroll
        for (int k = 0; k < kMeet; ++k) {
          float sample;
          if constexpr (U == 1) {
            sample = v[o * D + k];
          } else {
            sample = o == 0 ? v[k] : (tap_x == 0 ? v[k + 1] : v[k]);
          }
          line[u][o] = k == 0 ? gx[o][k] * sample : line[u][o] + gx[o][k] * sample;
        }
      }
    }
  };

  // Numbers of the output are counted from a pair, too. A row of odd length has whole pairs and one number more: its
  // last, or the first of one that begins in the middle of a pair.
  const int64_t target = n * s.y.out * s.x.out;
  T* const result = out + (target & ~int64_t(1));
  const int room = lane < kWide / 2 ? s.x.out - 1 - first - 2 * lane : -1;  // for a second number, and more
  const bool begins_row = first == 0 && lane == 0;
  int to = int(target & 1) + oy * s.x.out + first + 2 * lane;
  const auto emit = [&](auto r, int phase) {
    constexpr int kOldest = decltype(r)::value + 1;  // of the rows in the window
    const int shifted = OddOut ? to & 1 : 0;
#pragma unroll
    for (int u = 0; u < Units; ++u) {
      float sum[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        sum[i] = filter.y[phase] * window[kOldest % kMeet][u][i];
#pragma unroll
        for (int k = 1; k < kMeet; ++k) sum[i] += filter.y[U * k + phase] * window[(kOldest + k) % kMeet][u][i];
      }
      const Pair own = pair_of<T>(sum), value = OddOut ? shifted_pair(own, shifted) : own;
      T* const place = result + to + shifted + u * kWide;
      if (room > u * kWide) *reinterpret_cast<Pair*>(place) = value;
      if (OddOut && room == u * kWide && !shifted) *place = first_of<T>(own);
      if (OddOut && u == 0 && begins_row && shifted) place[-1] = first_of<T>(own);
    }
    to += s.x.out;
  };
#pragma unroll
  for (int r = 0; r < kRing - 1; ++r) copy_row(r);
  walk_rows<U, D>(oy, rows, filter_row, emit, [&] { to += s.x.out; });
}

template <typename T, int U, int D, int Units, bool OddOut>
bool launch_units(const T* x, T* y, const UpfirdnShape& s, const Axes& filter, cudaStream_t stream) {
  constexpr int kStep = U == 2 ? 8 : 4 / D;
  PlanesPlan plan{0, 0, 0, first_pair(s.y)};
  const int rows = U == 1 ? s.y.out : 2 * pairs_of(s.y);
  const int64_t tiles = ceil_div(s.x.out, (OddOut ? 62 : 64) * Units);
  plan.walk = walk_of(rows, kStep, tiles * 32 * s.outer);
  const int64_t segments = ceil_div(rows, plan.walk);
  const int64_t blocks = ceil_div(tiles * segments * s.outer, kPlaneThreads / 32);
  // Numbers are counted in 32 bits within a plane, from the first row that padding stands for to the last.
  const int64_t rows_in = int64_t(std::abs(s.y.pad)) + s.y.in + int64_t(s.y.out) * D, rows_out = int64_t(s.y.out) + 256;
  const int64_t most = int64_t(INT32_MAX) - std::abs(s.x.pad) - 4096;
  if (blocks > INT32_MAX / 4 || (rows_in + 256) * s.x.in > most || rows_out * s.x.out > most) return false;
  plan.tiles = unsigned(tiles);
  plan.segments = unsigned(segments);
  planes_kernel<T, U, D, Units, OddOut><<<unsigned(blocks), kPlaneThreads, 0, stream>>>(x, y, s, filter, plan);
  return true;
}

}  // namespace

template <typename T, int U, int D>
bool launch_planes(const T* x, T* y, const UpfirdnShape& s, const Axes& filter, cudaStream_t stream) {
  constexpr int kUnits = D == 2 ? 2 : 4;  // more would take more registers than a busy multiprocessor has
  if (s.x.out % 2 == 0) return launch_units<T, U, D, kUnits, false>(x, y, s, filter, stream);
  return launch_units<T, U, D, sizeof(T) == 2 && D == 1 ? 3 : kUnits, true>(x, y, s, filter, stream);
}

#define OPS_INSTANTIATE(T, U, D) \
  template bool launch_planes<T, U, D>(const T*, T*, const UpfirdnShape&, const Axes&, cudaStream_t);
OPS_FOR_SHORT_FILTERS(OPS_INSTANTIATE)

}  // namespace ops
