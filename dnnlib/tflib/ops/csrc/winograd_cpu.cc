// 3x3 convolutions and their adjoints on CPUs, by minimal filtering.
#include <array>
#include <utility>

#include "transpose.h"
#include "winograd.h"

namespace ops {
namespace {

constexpr int kMostRows = kManyRegisters ? 14 : 6;  // of sums: they, a row of b and a number of a fill the registers
constexpr int64_t kColumns = 256;                   // whose part of b stays in the second-level cache

using RowsOfProducts = void (*)(const float*, int64_t, int64_t, const float*, int64_t, float*, int64_t);

template <int Group, bool First, size_t... R>
constexpr std::array<RowsOfProducts, sizeof...(R)> by_rows(std::index_sequence<R...>) {
  return {add_products<R + 1, Group, First>...};
}
template <int Group, bool First>
constexpr auto kByRows = by_rows<Group, First>(std::make_index_sequence<kMostRows>());

// to [rows, columns] = a [rows, depth] * b [depth, columns], b in panels.
void multiply(const float* a, int64_t a_row, int64_t rows, const float* b, int64_t depth, int64_t columns, float* to,
              int64_t to_row) {
  const int64_t parts = (rows + kMostRows - 1) / kMostRows;
  for (int64_t k = 0; k < depth; k += kDeep) {
    for (int64_t n0 = 0; n0 < columns; n0 += kColumns) {
      for (int64_t part = 0; part < parts; ++part) {
        const int64_t begin = rows * part / parts, end = rows * (part + 1) / parts;
        for (int64_t n = n0; n < std::min(n0 + kColumns, columns); n += kPanel) {
          const bool whole = columns - n >= kPanel;
          const auto& run = k == 0 ? (whole ? kByRows<kGroup, true> : kByRows<1, true>)
                                   : (whole ? kByRows<kGroup, false> : kByRows<1, false>);
          run[end - begin - 1](a + begin * a_row + k, a_row, 1, b + in_panels(k, n, depth, columns),
                               std::min(depth - k, kDeep), to + begin * to_row + n, to_row);
        }
      }
    }
  }
}

// Transformed weights: for every plane [in, out] in panels.
template <typename Way, typename T>
class Weights {
 public:
  Weights(int64_t in, int64_t out)
      : in_(in), out_(out), step_(plane_step(in * out)), memory_(kWeightPlanes<Way> * step_) {}
  const float* of_plane(int p) { return memory_.data() + weight_plane<Way>(p) * step_; }

  // w [3, 3, in, out].
  void fill(const T* w, const Parallel& parallel) {
    parallel(in_, out_ * 4, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        for (int64_t o = 0; o < out_; o += kFloatLanes) {
          put(i, o, [&](int t) { return load_lanes(w + (t * in_ + i) * out_ + o); });
        }
      }
    });
  }

  // w [3, 3, out, in], taps from the last to the first if `reversed`.
  void fill_transposed(const T* w, bool reversed, const Parallel& parallel) {
    parallel(in_ / kFloatLanes, out_ * 4 * kFloatLanes, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin * kFloatLanes; i < end * kFloatLanes; i += kFloatLanes) {
        for (int64_t o = 0; o < out_; o += kFloatLanes) {
          FloatLanes taps[9][kFloatLanes];
          for (int t = 0; t < 9; ++t) {
            const T* from = w + ((reversed ? 8 - t : t) * out_ + o) * in_ + i;
            for (int r = 0; r < kFloatLanes; ++r) taps[t][r] = load_lanes(from + r * in_);
            transpose(taps[t]);
          }
          for (int r = 0; r < kFloatLanes; ++r) put(i + r, o, [&](int t) { return taps[t][r]; });
        }
      }
    });
  }

 private:
  template <typename Tap>
  void put(int64_t i, int64_t o, const Tap& tap) {
    FloatLanes square[kWeightPlanes<Way>];
    for (int t = 0; t < 9; ++t) square[t / 3 * Way::kWeightSide + t % 3] = tap(t);
    transform_weights<Way>(square);
    float* to = memory_.data() + in_panels(i, o, in_, out_);
    for (int p = 0; p < kWeightPlanes<Way>; ++p) store_lanes(to + p * step_, square[p]);
  }

  int64_t in_, out_, step_;
  Room<float> memory_;
};

// What the tiles of one piece of work become on their way.
template <typename Way, typename T>
class Block {
 public:
  Block(const Conv3x3Shape& s, const Tiles& tiles, int64_t most)
      : s_(s), tiles_(tiles), in_row_(s.in + kFloatLanes), out_row_(s.out + kFloatLanes),
        in_step_(plane_step(most * in_row_)), out_step_(plane_step(most * out_row_)),
        memory_(kPlanes<Way> * (in_step_ + out_step_)), outside_(s.in) {}

  void run(int64_t first, int64_t count, const T* x, Weights<Way, T>& weights, T* y) {
    float *images = memory_.data(), *products = images + kPlanes<Way> * in_step_;
    for (int64_t t = 0; t < count; ++t) load(first + t, x, images + t * in_row_);
    for (int p = 0; p < kPlanes<Way>; ++p) {
      multiply(images + p * in_step_, in_row_, count, weights.of_plane(p), s_.in, s_.out, products + p * out_step_,
               out_row_);
    }
    for (int64_t t = 0; t < count; ++t) store(first + t, products + t * out_row_, y);
  }

 private:
  void load(int64_t tile, const T* x, float* to) {
    constexpr int kSize = Way::kImage;
    const T *from[kSize * kSize], *outside = outside_.data();
    pixels_of<kSize>(tiles_, tile, Way::kImageStep, Way::kBefore, s_.in_h, s_.in_w, s_.in, x, outside, from);
    for (int64_t c = 0; c < s_.in; c += kFloatLanes) {
      FloatLanes square[kPlanes<Way>];
      transform_image<Way>([&](int p) __attribute__((always_inline)) { return load_lanes(from[p] + c); }, square);
#pragma GCC unroll 36
      for (int p = 0; p < kPlanes<Way>; ++p) store_lanes(to + p * in_step_ + c, square[p]);
    }
  }

  void store(int64_t tile, const float* from, T* y) {
    constexpr int kSize = Way::kResults;
    T* to[kSize * kSize];
    pixels_of<kSize>(tiles_, tile, kSize, 0, s_.out_h, s_.out_w, s_.out, y, static_cast<T*>(nullptr), to);
    for (int64_t c = 0; c < s_.out; c += kFloatLanes) {
      FloatLanes square[kPlanes<Way>];
#pragma GCC unroll 36
      for (int p = 0; p < kPlanes<Way>; ++p) square[p] = load_lanes(from + p * out_step_ + c);
      transform_results<Way>(square);
#pragma GCC unroll 16
      for (int q = 0; q < kSize * kSize; ++q) {
        if (to[q]) store_lanes(to[q] + c, square[q / kSize * Way::kSide + q % kSize]);
      }
    }
  }

  const Conv3x3Shape& s_;
  const Tiles& tiles_;
  int64_t in_row_, out_row_, in_step_, out_step_;
  Room<float> memory_;
  Scratch<T> outside_;
};

// Tiles of a piece of work: what they become should stay in the second-level cache, and yet use weights, which may not
// fit there, often. At least eight pieces, as even as may be, for threads to share, or as many as there are threads if
// pieces of eight would be small. (How tiles are shared makes no difference to any number.)
int64_t tiles_together(const Conv3x3Shape& s, int64_t tiles, int planes) {
  constexpr int64_t kCache = 640 << 10, kLeast = 28, kMost = 112, kSmall = 16, kManyWeights = 512 * 128;
  const int64_t fit = kCache / (planes * (s.in + s.out) * static_cast<int64_t>(sizeof(float)));
  const int64_t together = s.in * s.out > kManyWeights ? kMost : std::clamp(fit, kLeast, kMost);
  const int64_t pieces = (tiles + together - 1) / together;
  const int64_t least = std::clamp<int64_t>(tiles / kSmall, s.threads, std::max<int64_t>(s.threads, 8));
  const int64_t even = (pieces + least - 1) / least * least;
  return std::max<int64_t>((tiles + even - 1) / even, 1);
}

template <typename Way, typename T>
void convolve(const Conv3x3Shape& s, bool adjoint, const T* x, const T* w, T* y, const Parallel& parallel) {
  Weights<Way, T> weights(s.in, s.out);
  adjoint ? weights.fill_transposed(w, !std::is_same<Way, Doubling>(), parallel) : weights.fill(w, parallel);
  const Tiles tiles(s.samples, s.out_h, s.out_w, Way::kResults);
  const int64_t together = tiles_together(s, tiles.count, kPlanes<Way>);
  constexpr int64_t kTransform = 20;  // products that take as long as transforming a number
  const int64_t cycles = together * (s.in * s.out + kTransform * (s.in + s.out)) * kPlanes<Way> / (2 * kFloatLanes);
  parallel((tiles.count + together - 1) / together, cycles, [&](int64_t begin, int64_t end) {
    Block<Way, T> block(s, tiles, together);
    for (int64_t i = begin; i < end; ++i) {
      block.run(i * together, std::min(tiles.count - i * together, together), x, weights, y);
    }
  });
}

}  // namespace

template <typename T>
void conv_3x3_cpu(const Conv3x3Shape& s, bool adjoint, const T* x, const T* w, T* y, const Parallel& parallel) {
  if (s.stride == 1 && s.tile == Fours::kResults) return convolve<Fours>(s, adjoint, x, w, y, parallel);
  if (s.stride == 1) return convolve<Twos>(s, adjoint, x, w, y, parallel);
  adjoint ? convolve<Doubling>(s, true, x, w, y, parallel) : convolve<Halving>(s, false, x, w, y, parallel);
}

template void conv_3x3_cpu<float>(const Conv3x3Shape&, bool, const float*, const float*, float*, const Parallel&);
template void conv_3x3_cpu<BFloat16>(const Conv3x3Shape&, bool, const BFloat16*, const BFloat16*, BFloat16*,
                                     const Parallel&);

}  // namespace ops
