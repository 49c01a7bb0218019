// Convolutions of 3x3 taps by minimal filtering (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
// 2016): along either axis 4 products for 2 results instead of 6, F(2, 3), or 6 for 4 instead of 12, F(4, 3). And 5
// for 2 instead of 6 with a stride of 2 or, the adjoint of that, between two: pixels and taps of even and of odd places
// are separate filters of 2 taps, which take 3 products for 2 results, and of 1 tap.
#pragma once

#include "cpu.h"
#include "products.h"

namespace ops {

// A way to filter along one axis. The kImage pixels d of a tile begin kBefore before its first result; from one tile to
// the next are kImageStep of them. They become kSide numbers, of which image() is number r, each of which is multiplied
// with one of kWeightSide numbers made of the taps, and the products become kResults results. grad() is number r of
// what gradients of the results become, with which images make sums that weights_grad() turns into gradients of taps.
struct Twos {
  static constexpr int kImage = 4, kImageStep = 2, kBefore = 1, kResults = 2, kSide = 4, kWeightSide = 4;
  template <typename D>
  OPS_HD static FloatLanes image(int r, const D& d) {
    switch (r) {
      case 0: return d(0) - d(2);
      case 1: return d(1) + d(2);
      case 2: return d(2) - d(1);
      default: return d(3) - d(1);
    }
  }
  template <typename D>
  OPS_HD static FloatLanes grad(int r, const D& d) {
    switch (r) {
      case 0: return d(0);
      case 1: return d(0) + d(1);
      case 2: return d(0) - d(1);
      default: return d(1);
    }
  }
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

// The same with 6 products for 4 results: polynomials at 0, the roots of 1/2 and of 2 with either sign, and infinity,
// which lose less in rounding than whole numbers do.
struct Fours {
  static constexpr int kImage = 6, kImageStep = 4, kBefore = 1, kResults = 4, kSide = 6, kWeightSide = 6;
  static constexpr float kLow = 0.70710678f, kHigh = 1.41421356f;
  template <typename D>
  OPS_HD static FloatLanes image(int r, const D& d) {
    switch (r) {
      case 0: return d(0) + (d(4) - d(2) * 2.5f);
      case 1: return (d(4) - d(2) * 2.0f) + (d(3) - d(1) * 2.0f) * kLow;
      case 2: return (d(4) - d(2) * 2.0f) - (d(3) - d(1) * 2.0f) * kLow;
      case 3: return (d(4) - d(2) * 0.5f) + (d(3) - d(1) * 0.5f) * kHigh;
      case 4: return (d(4) - d(2) * 0.5f) - (d(3) - d(1) * 0.5f) * kHigh;
      default: return d(1) + (d(5) - d(3) * 2.5f);
    }
  }
  template <typename D>
  OPS_HD static FloatLanes grad(int r, const D& d) {
    switch (r) {
      case 0: return d(0);
      case 1: return (d(0) + d(2) * 0.5f) + (d(1) + d(3) * 0.5f) * kLow;
      case 2: return (d(0) + d(2) * 0.5f) - (d(1) + d(3) * 0.5f) * kLow;
      case 3: return (d(0) + d(2) * 2.0f) + (d(1) + d(3) * 2.0f) * kHigh;
      case 4: return (d(0) + d(2) * 2.0f) - (d(1) + d(3) * 2.0f) * kHigh;
      default: return d(3);
    }
  }
  OPS_HD static void weights(FloatLanes* w, int step) {
    const FloatLanes a = w[0], b = w[step], c = w[2 * step];
    const FloatLanes low = (a + c * 0.5f) * (-2 / 3.0f), high = (a + c * 2.0f) * (1 / 6.0f);
    const FloatLanes odd_low = b * (-2 / 3.0f * kLow), odd_high = b * (1 / 6.0f * kHigh);
    w[step] = low + odd_low, w[2 * step] = low - odd_low;
    w[3 * step] = high + odd_high, w[4 * step] = high - odd_high, w[5 * step] = c;
  }
  OPS_HD static void weights_grad(FloatLanes* s, int step) {
    const FloatLanes low = (s[step] + s[2 * step]) * (-2 / 3.0f), high = (s[3 * step] + s[4 * step]) * (1 / 6.0f);
    const FloatLanes odd_low = (s[step] - s[2 * step]) * (-2 / 3.0f * kLow);
    const FloatLanes odd_high = (s[3 * step] - s[4 * step]) * (1 / 6.0f * kHigh);
    s[0] += low + high, s[step] = odd_low + odd_high, s[2 * step] = low * 0.5f + high * 2.0f + s[5 * step];
  }
  OPS_HD static void results(FloatLanes* m, int step) {
    const FloatLanes low = m[step] + m[2 * step], odd_low = (m[step] - m[2 * step]) * kLow;
    const FloatLanes high = m[3 * step] + m[4 * step], odd_high = (m[3 * step] - m[4 * step]) * kHigh;
    m[0] += low + high, m[step] = odd_low + odd_high, m[2 * step] = low * 0.5f + high * 2.0f;
    m[3 * step] = (odd_low * 0.5f + odd_high * 2.0f) + m[5 * step];
  }
};

// Stride 2, no zeros around the image. Both products of the filter of 1 tap use one number: of 5 there are 4.
struct Halving {
  static constexpr int kImage = 5, kImageStep = 4, kBefore = 0, kResults = 2, kSide = 5, kWeightSide = 4;
  template <typename D>
  OPS_HD static FloatLanes image(int r, const D& d) {
    switch (r) {
      case 0: return d(0) - d(2);
      case 1: return d(2);
      case 2: return d(4) - d(2);
      case 3: return d(1);
      default: return d(3);
    }
  }
  template <typename D>
  OPS_HD static FloatLanes grad(int r, const D& d) {
    switch (r) {
      case 1: return d(0) + d(1);
      case 0:
      case 3: return d(0);
      default: return d(1);
    }
  }
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
  static constexpr int kImage = 3, kImageStep = 2, kBefore = 1, kResults = 4, kSide = 5, kWeightSide = 4;
  template <typename D>
  OPS_HD static FloatLanes image(int r, const D& d) {
    switch (r) {
      case 0: return d(0) - d(1);
      case 2: return d(2) - d(1);
      case 1:
      case 3: return d(1);
      default: return d(2);
    }
  }
  OPS_HD static void weights(FloatLanes* w, int step) {
    const FloatLanes a = w[0], b = w[step];
    w[0] = w[2 * step], w[step] = a + w[2 * step], w[2 * step] = a, w[3 * step] = b;
  }
  OPS_HD static void results(FloatLanes* m, int step) {
    const FloatLanes b = m[step], c = m[2 * step];
    m[0] += b, m[step] = m[3 * step], m[2 * step] = b + c, m[3 * step] = m[4 * step];
  }
};

template <typename Way>
constexpr int kPlanes = Way::kSide * Way::kSide;
template <typename Way>
constexpr int kWeightPlanes = Way::kWeightSide * Way::kWeightSide;

// The weights of number i of a side.
template <typename Way>
constexpr int weight_of(int i) {
  return i < Way::kWeightSide ? i : Way::kWeightSide - 1;
}
template <typename Way>
constexpr int weight_plane(int plane) {
  return weight_of<Way>(plane / Way::kSide) * Way::kWeightSide + weight_of<Way>(plane % Way::kSide);
}

// square[i, j] from the pixels [i, j] of kImage x kImage: along both axes.
template <typename Way, typename P>
OPS_HD void transform_image(const P& pixel, FloatLanes (&square)[kPlanes<Way>]) {
#pragma GCC unroll 6
  for (int i = 0; i < Way::kSide; ++i) {
    FloatLanes row[Way::kImage];
#pragma GCC unroll 6
    for (int j = 0; j < Way::kImage; ++j) {
      row[j] = Way::image(i, [&](int k) __attribute__((always_inline)) { return pixel(k * Way::kImage + j); });
    }
#pragma GCC unroll 6
    for (int j = 0; j < Way::kSide; ++j) {
      square[i * Way::kSide + j] = Way::image(j, [&](int k) __attribute__((always_inline)) { return row[k]; });
    }
  }
}

// The first kResults x kResults of a square of kSide x kSide.
template <typename Way>
OPS_HD void transform_results(FloatLanes (&square)[kPlanes<Way>]) {
#pragma GCC unroll 6
  for (int j = 0; j < Way::kSide; ++j) Way::results(square + j, Way::kSide);
#pragma GCC unroll 4
  for (int i = 0; i < Way::kResults; ++i) Way::results(square + i * Way::kSide, 1);
}

// A square of kWeightSide x kWeightSide from its first 3x3.
template <typename Way>
OPS_HD void transform_weights(FloatLanes (&square)[kWeightPlanes<Way>]) {
#pragma GCC unroll 3
  for (int j = 0; j < 3; ++j) Way::weights(square + j, Way::kWeightSide);
#pragma GCC unroll 6
  for (int i = 0; i < Way::kWeightSide; ++i) Way::weights(square + i * Way::kWeightSide, 1);
}

// The first 3x3 of a square of kWeightSide x kWeightSide.
template <typename Way>
OPS_HD void transform_weights_grad(FloatLanes (&square)[kWeightPlanes<Way>]) {
#pragma GCC unroll 6
  for (int j = 0; j < Way::kWeightSide; ++j) Way::weights_grad(square + j, Way::kWeightSide);
#pragma GCC unroll 3
  for (int i = 0; i < 3; ++i) Way::weights_grad(square + i * Way::kWeightSide, 1);
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

// Numbers from one plane to the next: `size` or a few more, so that planes do not meet in the same lines of a cache.
inline int64_t plane_step(int64_t size) {
  constexpr int64_t kLine = 16, kSets = 64, kSkip = 5;
  const int64_t lines = (size + kLine - 1) / kLine;
  return (lines + (kSkip + kSets - lines % kSets) % kSets) * kLine;
}

}  // namespace ops
