// Gradient of 3x3 convolutions with respect to their filters on CPUs, by minimal filtering: for every number of a
// transformed tile a product of the matrix of images [tiles, in] with that of gradients [tiles, out]. All that a piece
// of work holds stays in the second-level cache: some maps, one row of the transformed tiles, a few tiles at a time.
#include "winograd.h"

namespace ops {
namespace {

constexpr int kRows = kManyRegisters ? 8 : 4;  // input maps whose sums are made together: they divide kMapsStep
constexpr int64_t kMaps = 256;                 // at most, of images and of gradients, in a piece
constexpr int64_t kTileBytes = 384 << 10;      // of transformed tiles
constexpr int64_t kLeastPieces = 16;                // for threads to share, where there are tiles enough

static_assert(kMapsStep % kRows == 0 && kMaps % kPanel == 0, "rows and panels do not reach over groups of maps");

// Transformed tiles [tiles, maps] of a row of planes, each in panels.
struct Side {
  Side(int64_t planes, int64_t tiles, int64_t maps)
      : tiles(tiles), maps(maps), step(plane_step(tiles * maps)), memory(planes * step) {}
  float* at(int64_t plane, int64_t tile, int64_t map) {
    const int64_t panel = map / kPanel * kPanel, width = std::min(maps - panel, kPanel);
    return memory.data() + plane * step + panel * tiles + tile * width + (map - panel);
  }
  int64_t tiles, maps, step;
  Room<float> memory;
};

// Row R of a transformed tile, from Size x Size pixels. number(r, d): number r of the transform of d along one axis.
template <int R, int Size, int Planes, typename T, typename F>
void put_row(const F& number, const T* const (&pixels)[Size * Size], int64_t tile, Side& to) {
  for (int64_t c = 0; c < to.maps; c += kFloatLanes) {
    FloatLanes row[Size];
#pragma GCC unroll 6
    for (int j = 0; j < Size; ++j) {
      row[j] = number(R, [&](int i) __attribute__((always_inline)) { return load_lanes(pixels[i * Size + j] + c); });
    }
    float* place = to.at(0, tile, c);
#pragma GCC unroll 6
    for (int j = 0; j < Planes; ++j) {
      store_lanes(place + j * to.step, number(j, [&](int i) __attribute__((always_inline)) { return row[i]; }));
    }
  }
}

// How the work is cut: pieces are parts of the tiles, groups of maps, and rows of weights.
template <typename Way>
struct Plan {
  explicit Plan(const Conv3x3Shape& s)
      : tiles(s.samples, s.out_h, s.out_w, Way::kResults), in(std::min(s.in, kMaps)), out(std::min(s.out, kMaps)),
        in_groups((s.in + in - 1) / in), out_groups((s.out + out - 1) / out), step(plane_step(in * out)) {
    const int64_t fit = kTileBytes / (Way::kSide * (in + out) * static_cast<int64_t>(sizeof(float)));
    together = std::clamp<int64_t>(fit, 1, 128);  // more would push a panel out of the first-level cache
    const int64_t pieces = groups() * Way::kWeightSide, chunks = (tiles.count + together - 1) / together;
    parts = std::clamp<int64_t>((kLeastPieces + pieces - 1) / pieces, 1, std::max<int64_t>(chunks, 1));
  }
  int64_t groups() const { return in_groups * out_groups; }
  // Where the sum of two maps lies in a plane [in, columns] of a group: panel by panel, kRows rows together.
  static int64_t at(int64_t i, int64_t o, int64_t columns) {
    const int64_t panel = o / kPanel * kPanel, width = std::min(columns - panel, kPanel);
    return i / kRows * kRows * columns + panel * kRows + i % kRows * width + (o - panel);
  }
  int64_t sums() const { return parts * groups() * kWeightPlanes<Way> * step; }
  int64_t sums_at(int64_t part, int64_t group) const { return (part * groups() + group) * kWeightPlanes<Way> * step; }

  Tiles tiles;
  int64_t in, out, in_groups, out_groups;
  int64_t step;
  int64_t together;  // tiles at a time
  int64_t parts;     // of all tiles, whose sums are added at last
};

template <int Group>
void add_panel(bool first, const float* a, int64_t a_deep, const float* b, int64_t depth, float* to) {
  first ? add_products<kRows, Group, true>(a, 1, a_deep, b, depth, to, Group * kFloatLanes)
        : add_products<kRows, Group, false>(a, 1, a_deep, b, depth, to, Group * kFloatLanes);
}

template <typename Way, typename T>
class Piece {
 public:
  Piece(const Conv3x3Shape& s, const Plan<Way>& plan)
      : s_(s), plan_(plan), outside_(std::max(s.in, s.out)), images_(Way::kSide, plan.together, plan.in),
        grads_(Way::kSide, plan.together, plan.out) {}

  // Sums of a row of weights over [begin, end) tiles, for maps from i and o on.
  void run(int row, int64_t begin, int64_t end, int64_t i, int64_t o, const T* x, const T* dy, float* sums) {
    images_.maps = std::min(s_.in - i, plan_.in), grads_.maps = std::min(s_.out - o, plan_.out);
    bool first[Way::kWeightSide];
    std::fill_n(first, Way::kWeightSide, true);
    for (int64_t tile = begin; tile < end; tile += plan_.together) {
      const int64_t count = std::min(end - tile, plan_.together);
      for (int r = row; r < Way::kSide && weight_of<Way>(r) == row; ++r) {
        load(r, tile, count, x + i, dy + o);
        for (int p = 0; p < Way::kSide; ++p) {
          const int place = weight_of<Way>(p);
          multiply(p, count, first[place], sums + place * plan_.step);
          first[place] = false;
        }
      }
    }
  }

 private:
  void load(int row, int64_t first, int64_t count, const T* x, const T* dy) {
    switch (row) {
      case 0: return load_row<0>(first, count, x, dy);
      case 1: return load_row<1>(first, count, x, dy);
      case 2: return load_row<2>(first, count, x, dy);
      case 3: return load_row<3>(first, count, x, dy);
      case 4: return load_row<std::min(4, Way::kSide - 1)>(first, count, x, dy);
      default: return load_row<Way::kSide - 1>(first, count, x, dy);
    }
  }

  template <int R>
  void load_row(int64_t first, int64_t count, const T* x, const T* dy) {
    constexpr int kImage = Way::kImage, kResults = Way::kResults;
    for (int64_t t = 0; t < count; ++t) {
      const T *image[kImage * kImage], *grad[kResults * kResults], *outside = outside_.data();
      pixels_of<kImage>(plan_.tiles, first + t, Way::kImageStep, Way::kBefore, s_.in_h, s_.in_w, s_.in, x,
                        outside, image);
      pixels_of<kResults>(plan_.tiles, first + t, kResults, 0, s_.out_h, s_.out_w, s_.out, dy, outside, grad);
      put_row<R, kImage, Way::kSide>(
          [](int r, const auto& d) __attribute__((always_inline)) { return Way::image(r, d); }, image, t, images_);
      put_row<R, kResults, Way::kSide>(
          [](int r, const auto& d) __attribute__((always_inline)) { return Way::grad(r, d); }, grad, t, grads_);
    }
  }

  void multiply(int plane, int64_t count, bool first, float* sums) {
    for (int64_t n = 0; n < grads_.maps; n += kPanel) {
      const float* b = grads_.at(plane, 0, n);
      for (int64_t i = 0; i < images_.maps; i += kRows) {
        const float* a = images_.at(plane, 0, i);
        const int64_t a_deep = std::min(images_.maps - i / kPanel * kPanel, kPanel);
        float* to = sums + Plan<Way>::at(i, n, grads_.maps);
        grads_.maps - n >= kPanel ? add_panel<kGroup>(first, a, a_deep, b, count, to)
                                  : add_panel<1>(first, a, a_deep, b, count, to);
      }
    }
  }

  const Conv3x3Shape& s_;
  const Plan<Way>& plan_;
  Scratch<T> outside_;
  Side images_, grads_;
};

template <typename Way, typename T>
void make_sums(const Conv3x3Shape& s, const Plan<Way>& plan, const T* x, const T* dy, float* sums,
               const Parallel& parallel) {
  const int64_t groups = plan.groups(), tiles = plan.tiles.count, parts = plan.parts;
  const int64_t cycles = tiles / parts * Way::kSide * (plan.in * plan.out / (2 * kFloatLanes) + plan.in + plan.out);
  parallel(parts * groups * Way::kWeightSide, cycles, [&](int64_t begin, int64_t end) {
    Piece<Way, T> piece(s, plan);
    for (int64_t unit = begin; unit < end; ++unit) {
      constexpr int64_t kSide = Way::kWeightSide;
      const int64_t part = unit / (groups * kSide), group = unit / kSide % groups, row = unit % kSide;
      piece.run(static_cast<int>(row), tiles * part / parts, tiles * (part + 1) / parts,
                group / plan.out_groups * plan.in, group % plan.out_groups * plan.out, x, dy,
                sums + plan.sums_at(part, group) + row * kSide * plan.step);
    }
  });
}

template <typename Way, typename T>
void filter_grad(const Conv3x3Shape& s, const T* x, const T* dy, T* dw, const Parallel& parallel) {
  const Plan<Way> plan(s);
  if (plan.tiles.count == 0) return std::fill(dw, dw + 9 * s.in * s.out, T{});
  Room<float> sums(plan.sums());
  make_sums(s, plan, x, dy, sums.data(), parallel);
  parallel(s.in, s.out * (3 + 2 * plan.parts), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t o = 0; o < s.out; o += kFloatLanes) {
        const int64_t group = i / plan.in * plan.out_groups + o / plan.out;
        const int64_t place = plan.at(i % plan.in, o % plan.out, std::min(s.out - o / plan.out * plan.out, plan.out));
        FloatLanes square[kWeightPlanes<Way>] = {};
        for (int64_t part = 0; part < plan.parts; ++part) {
          const float* from = sums.data() + plan.sums_at(part, group) + place;
          for (int p = 0; p < kWeightPlanes<Way>; ++p) square[p] += load_lanes(from + p * plan.step);
        }
        transform_weights_grad<Way>(square);
        for (int t = 0; t < 9; ++t) {
          store_lanes(dw + (t * s.in + i) * s.out + o, square[t / 3 * Way::kWeightSide + t % 3]);
        }
      }
    }
  });
}

}  // namespace

template <typename T>
void conv_3x3_filter_grad_cpu(const Conv3x3Shape& s, const T* x, const T* dy, T* dw, const Parallel& parallel) {
  if (s.stride == 2) return filter_grad<Halving>(s, x, dy, dw, parallel);
  s.tile == Fours::kResults ? filter_grad<Fours>(s, x, dy, dw, parallel)
                            : filter_grad<Twos>(s, x, dy, dw, parallel);
}

template void conv_3x3_filter_grad_cpu<float>(const Conv3x3Shape&, const float*, const float*, float*, const Parallel&);
template void conv_3x3_filter_grad_cpu<BFloat16>(const Conv3x3Shape&, const BFloat16*, const BFloat16*, BFloat16*,
                                                 const Parallel&);

}  // namespace ops
