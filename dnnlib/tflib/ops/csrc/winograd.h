// Convolutions of 3x3 taps by minimal filtering: along either axis 4 products for 2 results instead of 6 (F(2, 3): Lavin
// and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016, section 4.1), and 5 instead of 6 with a stride of
// 2 or, the adjoint of that, between two: pixels and taps of even and of odd places are separate filters of 2 taps, which
// take 3 products for 2 results, and of 1 tap.
#pragma once

#include <atomic>
#include <new>

#include "cpu.h"
#include "products.h"

namespace ops {

// One number made of one or two: of [first] plus `sign` times that of [second].
struct Term {
  int first, second, sign;
};

// A way to filter along one axis. The kImage pixels of a tile begin kBefore before its first result; from one tile to
// the next are kImageStep of them. They become kSide numbers, each of which is multiplied with a number made of the taps,
// and the products become kResults results. Both products of the filter of 1 tap use one number: of 5 there are 4.
struct Same {
  static constexpr int kImage = 4, kImageStep = 2, kBefore = 1, kResults = 2, kSide = 4;
  static constexpr Term kImageTerms[] = {{0, 2, -1}, {1, 2, 1}, {2, 1, -1}, {3, 1, -1}};
  static constexpr Term kGradTerms[] = {{0, 0, 0}, {0, 1, 1}, {0, 1, -1}, {1, 0, 0}};
  OPS_HD static void weights(FloatLanes* w, int step) {
    const FloatLanes a = w[0], b = w[step], c = w[2 * step], half = (a + c) * 0.5f;
    w[step] = half + b * 0.5f, w[2 * step] = half - b * 0.5f, w[3 * step] = c;
  }
  OPS_HD static void weights_grad(FloatLanes* s, int step) {
    const FloatLanes half = (s[step] + s[2 * step]) * 0.5f;
    s[0] += half, s[step] = (s[step] - s[2 * step]) * 0.5f, s[2 * step] = half + s[3 * step];
  }
  OPS_HD static void results(FloatLanes* m, int step) {
    const FloatLanes b = m[step], c = m[2 * step];
    m[0] += b + c, m[step] = b - c + m[3 * step];
  }
};

struct Halving {  // stride 2, no zeros around the image
  static constexpr int kImage = 5, kImageStep = 4, kBefore = 0, kResults = 2, kSide = 5;
  static constexpr Term kImageTerms[] = {{0, 2, -1}, {2, 0, 0}, {4, 2, -1}, {1, 0, 0}, {3, 0, 0}};
  static constexpr Term kGradTerms[] = {{0, 0, 0}, {0, 1, 1}, {1, 0, 0}, {0, 0, 0}, {1, 0, 0}};
  OPS_HD static void weights(FloatLanes* w, int step) {
    const FloatLanes b = w[step], c = w[2 * step];
    w[step] = w[0] + c, w[3 * step] = b;
  }
  OPS_HD static void weights_grad(FloatLanes* s, int step) {
    const FloatLanes b = s[step];
    s[0] += b, s[step] = s[3 * step], s[2 * step] += b;
  }
  OPS_HD static void results(FloatLanes* m, int step) {
    const FloatLanes b = m[step];
    m[0] += b + m[3 * step], m[step] = b + m[2 * step] + m[4 * step];
  }
};

struct Doubling {  // the adjoint of Halving
  static constexpr int kImage = 3, kImageStep = 2, kBefore = 1, kResults = 4, kSide = 5;
  static constexpr Term kImageTerms[] = {{0, 1, -1}, {1, 0, 0}, {2, 1, -1}, {1, 0, 0}, {2, 0, 0}};
  OPS_HD static void weights(FloatLanes* w, int step) {
    const FloatLanes a = w[0], b = w[step];
    w[0] = w[2 * step], w[step] = a + w[2 * step], w[2 * step] = a, w[3 * step] = b;
  }
  OPS_HD static void results(FloatLanes* m, int step) {
    const FloatLanes b = m[step], c = m[2 * step];
    m[0] += b, m[step] = m[3 * step], m[2 * step] = b + c, m[3 * step] = m[4 * step];
  }
};

constexpr int kWeightSide = 4, kWeightPlanes = kWeightSide * kWeightSide;  // of which weights have distinct ones

template <typename Way>
constexpr int kPlanes = Way::kSide * Way::kSide;

// The weights of number i of a side.
constexpr int weight_of(int i) { return i < kWeightSide ? i : kWeightSide - 1; }
constexpr int weight_plane(int plane, int side) {
  return weight_of(plane / side) * kWeightSide + weight_of(plane % side);
}

OPS_HD FloatLanes combine(const Term& term, FloatLanes first, FloatLanes second) {
  return term.sign == 0 ? first : term.sign > 0 ? first + second : first - second;
}

// square[i, j] for pixels[i, j] of kImage x kImage: along both axes.
template <typename Way>
OPS_HD void transform_image(const FloatLanes (&pixels)[Way::kImage * Way::kImage], FloatLanes (&square)[kPlanes<Way>]) {
#pragma GCC unroll 5
  for (int i = 0; i < Way::kSide; ++i) {
    const Term& term = Way::kImageTerms[i];
    FloatLanes row[Way::kImage];
#pragma GCC unroll 5
    for (int j = 0; j < Way::kImage; ++j) {
      row[j] = combine(term, pixels[term.first * Way::kImage + j], pixels[term.second * Way::kImage + j]);
    }
#pragma GCC unroll 5
    for (int j = 0; j < Way::kSide; ++j) {
      const Term& along = Way::kImageTerms[j];
      square[i * Way::kSide + j] = combine(along, row[along.first], row[along.second]);
    }
  }
}

// The first kResults x kResults of a square of kSide x kSide.
template <typename Way>
OPS_HD void transform_results(FloatLanes (&square)[kPlanes<Way>]) {
#pragma GCC unroll 5
  for (int j = 0; j < Way::kSide; ++j) Way::results(square + j, Way::kSide);
#pragma GCC unroll 4
  for (int i = 0; i < Way::kResults; ++i) Way::results(square + i * Way::kSide, 1);
}

// A square of 4x4 from its first 3x3.
template <typename Way>
OPS_HD void transform_weights(FloatLanes (&square)[kWeightPlanes]) {
#pragma GCC unroll 3
  for (int j = 0; j < 3; ++j) Way::weights(square + j, kWeightSide);
#pragma GCC unroll 4
  for (int i = 0; i < kWeightSide; ++i) Way::weights(square + i * kWeightSide, 1);
}

// The first 3x3 of a square of 4x4.
template <typename Way>
OPS_HD void transform_weights_grad(FloatLanes (&square)[kWeightPlanes]) {
#pragma GCC unroll 4
  for (int j = 0; j < kWeightSide; ++j) Way::weights_grad(square + j, kWeightSide);
#pragma GCC unroll 3
  for (int i = 0; i < 3; ++i) Way::weights_grad(square + i * kWeightSide, 1);
}

// Tiles of the results of a minibatch, in rows.
struct Tiles {
  Tiles(int64_t samples, int64_t height, int64_t width, int64_t size)
      : columns((width + size - 1) / size),
        per_image((height + size - 1) / size * columns),
        count(samples * per_image) {}
  int64_t columns, per_image, count;
};

// Pointers to the Size x Size pixels of tile t; to `outside` beyond the image.
template <int Size, typename T>
inline void pixels_of(const Tiles& tiles, int64_t t, int64_t step, int64_t before, int64_t height, int64_t width,
                      int64_t maps, T* x, T* outside, T* (&pixels)[Size * Size]) {
  const int64_t sample = t / tiles.per_image, rest = t % tiles.per_image;
  const int64_t top = rest / tiles.columns * step - before, left = rest % tiles.columns * step - before;
  for (int i = 0; i < Size; ++i) {
    for (int j = 0; j < Size; ++j) {
      const int64_t row = top + i, column = left + j;
      const bool inside = row >= 0 && row < height && column >= 0 && column < width;
      pixels[i * Size + j] = inside ? x + ((sample * height + row) * width + column) * maps : outside;
    }
  }
}

static_assert(kMapsStep % kFloatLanes == 0, "maps come in whole registers");

// Runs pieces of work. Memory that one of them cannot have is an error of the caller, not the end of the program.
template <typename F>
void run_pieces(const Parallel& parallel, int64_t total, int64_t cycles, const F& f) {
  std::atomic<bool> failed{false};
  parallel(total, cycles, [&](int64_t begin, int64_t end) {
    try {
      f(begin, end);
    } catch (const std::bad_alloc&) {
      failed = true;
    }
  });
  if (failed) throw std::bad_alloc();
}

// Numbers from one plane to the next: `size` or a few more, so that planes do not meet in the same lines of a cache.
inline int64_t plane_step(int64_t size) {
  constexpr int64_t kLine = 16, kSets = 64, kSkip = 5;
  const int64_t lines = (size + kLine - 1) / kLine;
  return (lines + (kSkip + kSets - lines % kSets) % kSets) * kLine;
}

}  // namespace ops
