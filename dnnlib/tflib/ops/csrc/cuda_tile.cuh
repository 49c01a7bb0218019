// The tile of the short filters of upfirdn: its sizes, how it comes to shared memory and how its rows are read.
#pragma once

#include "cuda_upfirdn.cuh"

namespace ops {

constexpr int kTaps = 4;
constexpr int kTileThreads = 128;

// The tile of a block. U, D: factors, one of them 1. Last: channels last, a tile holds kChunk channels of its pixels.
template <typename T, int U, int D, bool Last>
struct Tile {
  static constexpr int kVector = 16 / sizeof(T);                // numbers of one load
  static constexpr int kEach = 8 / sizeof(T);                   // outputs of one thread in one row
  static constexpr int kChunk = Last ? 64 / sizeof(T) : 1;
  // Threads of one row; of planes a warp, so that tiles are narrow enough for small images.
  static constexpr int kAcross = Last ? kTileThreads : 32, kDown = kTileThreads / kAcross;
  static constexpr int kWidth = kAcross * kEach / kChunk;       // output pixels; even, as phases of U == 2 need
  static constexpr int kWalk = U == 2 ? 32 : (D == 1 ? 16 : 8);  // rows of one thread; even
  static constexpr int kHeight = kWalk * kDown;
  // Blocks of a multiprocessor that registers must do for; compute capability 7.5 has no more than 8 of 128 threads.
  static constexpr int kBlocks = sizeof(T) == 4 && D == 1 ? 8 : 6;
  static constexpr int kMeet = kTaps / U;                       // input rows (and columns) that meet one output
  static constexpr int kColumns = U == 2 ? kWidth / 2 + kMeet : (kWidth - 1) * D + kMeet;
  static constexpr int kRows = U == 2 ? kHeight / 2 + kMeet : (kHeight - 1) * D + kMeet;
  static constexpr int kVectors = (kColumns * kChunk + (Last ? 0 : kVector - 1) + kVector - 1) / kVector;  // of a row
  static constexpr int kPitch = kVectors * kVector;
  // Planes: columns from thread to thread, columns that the outputs of one thread meet, columns of one load from the
  // tile and how many loads cover those columns wherever they begin.
  static constexpr int kStride = U == 1 ? kEach * D : kEach / 2;
  static constexpr int kSpan = U == 1 ? (kEach - 1) * D + kMeet : kEach / 2 + kMeet;
  static constexpr int kGroup = U == 2 ? 1 : (kStride < kVector ? kStride : kVector);
  static constexpr int kLoads = (kGroup - 1 + kSpan + kGroup - 1) / kGroup;
  static_assert(Last || ((kAcross - 1) * kStride + kVector - 1) / kGroup * kGroup + kLoads * kGroup <= kPitch,
                "the last thread reads beyond the row");
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

// Brings rows [y0, y0 + kRows) from column x0 on (channels from c0 on) to `tile`, zeros outside of the image; the
// caller waits. From compute capability 8 on no register holds what is under way, so that all loads are; before, as
// many as registers are spent on.
template <typename T, typename Box, bool Last>
__device__ __forceinline__ void load_tile(const T* in, T* tile, const UpfirdnShape& s, int64_t n, int y0, int x0,
                                          int64_t c0) {
  constexpr int V = Box::kVector, kTotal = Box::kRows * Box::kVectors, kBatch = 4;
  constexpr int kPerPixel = Last ? Box::kChunk / V : 1;
  for (int begin = threadIdx.x; begin < kTotal; begin += kBatch * kTileThreads) {
    Copy16 copies[kBatch];
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const int i = begin + b * kTileThreads, r = i / Box::kVectors, q = i - r * Box::kVectors, y = y0 + r;
      if (i >= kTotal) break;
      const int64_t row = (n * s.y.in + y) * s.x.in;
      const int x = Last ? x0 + q / kPerPixel : x0 - row_shift<V>(row + x0) + q * V;
      const int64_t c = Last ? c0 + q % kPerPixel * V : 0;
      int count = 0;  // numbers that exist, from the first on
      if (y >= 0 && y < s.y.in && x >= 0 && x < s.x.in && (!Last || c < s.inner)) {
        count = Last || s.x.in - x > V ? V : s.x.in - x;
      }
      copies[b].start(tile + i * V, count > 0 ? in + (row + x) * s.inner + c : in, count * int(sizeof(T)));
    }
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const int i = begin + b * kTileThreads;
      if (i < kTotal) copies[b].finish(tile + i * V);
    }
  }
}

// Planes: vectors that begin before column 0 and end in the image came as zeros.
template <typename T, typename Box>
__device__ __forceinline__ void mend_left_edge(const T* in, T* tile, const UpfirdnShape& s, int64_t n, int y0, int x0) {
  constexpr int V = Box::kVector;
  for (int r = threadIdx.x; r < Box::kRows; r += kTileThreads) {
    const int y = y0 + r;
    if (y < 0 || y >= s.y.in) continue;
    const T* row = in + (n * s.y.in + y) * s.x.in;
    const int start = x0 - row_shift<V>((n * s.y.in + y) * s.x.in + x0), first = floor_div(start, V) * V;
    // Of the vectors of the tile at most one holds columns on both sides of 0.
    const int offset = (start - first) % V;  // start is offset numbers after a multiple of V
    if (start >= 0 || offset == 0) continue;
    const int x = offset - V;  // where that vector begins
    if (x - start >= Box::kPitch) continue;
    for (int j = -x; j < V && x + j < s.x.in; ++j) tile[r * Box::kPitch + x - start + j] = row[x + j];
  }
}

template <int Step, int Words>
__device__ __forceinline__ void move_words(bool move, uint32_t* words) {
#pragma unroll
  for (int i = 0; i + Step < Words; ++i) words[i] = move ? words[i + Step] : words[i];
}

// Span numbers of a row of the tile from number `at` on. Whole groups of G numbers are loaded, one vector each, and
// moved to their places afterwards: number by number, neighbouring threads would get in each other's way. With U == 2
// they do not, or little, and choosing among places as well takes the compiler out of its registers: G is 1.
template <typename T, int G, int Loads, int Span>
__device__ __forceinline__ void read_line(const T* row, int at, float* line) {
  if constexpr (G == 1) {
#pragma unroll
    for (int k = 0; k < Span; ++k) line[k] = widen(row[at + k]);
  } else {
    constexpr int kPer = 4 / sizeof(T), kParts = G / kPer, kWords = Loads * kParts;  // numbers of a word; words
    const int shift = at & (G - 1);
    uint32_t words[kWords];
#pragma unroll
    for (int j = 0; j < Loads; ++j) {
      const auto part = *reinterpret_cast<const Vec<uint32_t, kParts>*>(row + at - shift + j * G);
#pragma unroll
      for (int i = 0; i < kParts; ++i) words[j * kParts + i] = part.v[i];
    }
    if constexpr (kParts >= 4) move_words<2, kWords>(shift / kPer & 2, words);
    if constexpr (kParts >= 2) move_words<1, kWords>(shift / kPer & 1, words);
    if constexpr (kPer == 2) {
#pragma unroll
      for (int i = 0; i + 1 < kWords; ++i) words[i] = __funnelshift_r(words[i], words[i + 1], (shift & 1) * 16);
    }
#pragma unroll
    for (int k = 0; k < Span; ++k) {
      if constexpr (kPer == 2) {
        line[k] = widen(T(uint16_t(words[k / 2] >> (k % 2 * 16))));
      } else {
        line[k] = bits_float(words[k]);
      }
    }
  }
}

}  // namespace ops
