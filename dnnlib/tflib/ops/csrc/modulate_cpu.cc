// Modulation of convolution weights on CPUs.
#include "stream.h"
#include "weight_rows.h"

namespace ops {

template <typename T>
void modulate_cpu(const ModulateShape& m, const T* w, const T* s, const wide_t<T>* d, T* y, const Parallel& parallel) {
  using A = wide_t<T>;
  // All samples of one row of w while it is in the cache.
  const bool stream = streams(m.samples * m.taps * m.in * m.out * static_cast<int64_t>(sizeof(T)));
  const bool direct = streams_lanes(y, m.samples * m.taps * m.in * m.out, m.out);
  const std::vector<A> ones(d ? 0 : m.out, A(1));
  parallel(m.taps * m.in, m.samples * m.out / 2 + 1, [&](int64_t begin, int64_t end) {
    std::vector<T> staged(stream && !direct ? m.out : 0);
    for (int64_t row = begin; row < end; ++row) {
      const T* wr = w + row * m.out;
      for (int64_t n = 0; n < m.samples; ++n) {
        const A style = widen(s[n * m.in + row % m.in]);
        const A* __restrict dn = d ? d + n * m.out : ones.data();
        T* target = y + m.offset(n, row);
        if (direct) {
          for (int64_t o = 0; o < m.out; o += Lanes<A>::kSize) {
            put_lanes<true>(target + o, load_lanes(wr + o) * style * load_lanes(dn + o));
          }
          continue;
        }
        T* yr = stream ? staged.data() : target;
#pragma GCC ivdep
        for (int64_t o = 0; o < m.out; ++o) yr[o] = narrow<T, A>(widen(wr[o]) * style * dn[o]);
        if (stream) stream_copy(target, yr, m.out * sizeof(T));
      }
    }
    if (stream) stream_end();
  });
}

namespace {

// Sums over samples and over taps for one input map, of Samples samples and Group registers of neighbouring outputs
// (`count` numbers of the only one where not Whole): dw = sum over n of dy * factor, product[n] = sum over taps of
// dy * w. Sums over samples go on from block to block of these in `sums`, [taps, Group] registers. Samples of dy lie
// `sample` apart, taps `tap`; what stands `ahead` will be needed soon.
template <typename T>
struct GradRows {
  using A = wide_t<T>;
  const T* dy;
  const T* w;
  const A* factor;
  A* product;
  T* dw;
  A* sums;
  int64_t sample, tap, ahead, row, out, taps;  // `row`: from tap to tap of w and dw

  template <int Samples, int Group, bool Whole>
  OPS_HD void block(int64_t n0, int64_t o, bool first, bool last, int count) const {
    using V = lanes_t<A>;
    constexpr int kLanes = Lanes<A>::kSize;
    V factors[Samples][Group], products[Samples][Group] = {};
    for (int n = 0; n < Samples; ++n) {
      for (int j = 0; j < Group; ++j) factors[n][j] = load_some<Whole>(factor + (n0 + n) * out + o + j * kLanes, count);
    }
    const T *from = dy + n0 * sample + o, *weights = w + o;
    T* to = dw + o;
    for (int64_t t = 0; t < taps; ++t, from += tap, weights += row, to += row) {
      for (int j = 0; j < Group; ++j) {
        const V weight = load_some<Whole>(weights + j * kLanes, count);
        A* carried = sums + (t * Group + j) * kLanes;
        V sum = first ? V{} : load_lanes(carried);
        for (int n = 0; n < Samples; ++n) {
          const T* at = from + n * sample + j * kLanes;
          __builtin_prefetch(at + ahead, 0, 2);
          const V g = load_some<Whole>(at, count);
          sum += g * factors[n][j];
          products[n][j] += g * weight;
        }
        if (last) {
          store_some<Whole, T, A>(to + j * kLanes, sum, count);
        } else {
          store_lanes(carried, sum);
        }
      }
    }
    for (int n = 0; n < Samples; ++n) {
      for (int j = 0; j < Group; ++j) {
        store_some<Whole, A, A>(product + (n0 + n) * out + o + j * kLanes, products[n][j], count);
      }
    }
  }

  void run(int64_t samples) const {
    for_groups<2, A>(out, [&](auto group, auto whole, int64_t o, int count) __attribute__((always_inline)) {
      int64_t n = 0;
      for (; n + 4 <= samples; n += 4) block<4, group.value, whole.value>(n, o, n == 0, n + 4 == samples, count);
      for (; n < samples; ++n) block<1, group.value, whole.value>(n, o, n == 0, n + 1 == samples, count);
    });
  }
};

}  // namespace

template <typename T>
void modulate_grad_cpu(const ModulateShape& m, const T* dy, const T* w, const T* s, const wide_t<T>* d, T* dw, T* ds,
                       wide_t<T>* dd, const Parallel& parallel) {
  using A = wide_t<T>;
  const int64_t piece = maps_of_piece(m), pieces = (m.in + piece - 1) / piece, size = m.samples * m.out;
  if (m.samples == 0) std::fill(dw, dw + m.taps * m.in * m.out, T(0));
  Scratch<A> partial(dd ? pieces * size : 0);
  const std::vector<A> ones(d ? 0 : m.out, A(1));
  parallel(pieces, piece * m.taps * size / 4 + 1, [&](int64_t begin, int64_t end) {
    Scratch<A> products(size), factors(size), sums(m.taps * 2 * Lanes<A>::kSize);
    for (int64_t i = begin * piece; i < std::min(end * piece, m.in); ++i) {
      for (int64_t n = 0; n < m.samples; ++n) {
        const A style = widen(s[n * m.in + i]);
        const A* dn = d ? d + n * m.out : ones.data();
        A* __restrict factor = factors.data() + n * m.out;
#pragma GCC ivdep
        for (int64_t o = 0; o < m.out; ++o) factor[o] = dn[o] * style;
      }
      GradRows<T> rows = {dy + m.offset(0, i), w + i * m.out, factors.data(), products.data(), dw + i * m.out,
                          sums.data()};
      rows.sample = m.offset(1, 0) - m.offset(0, 0);
      rows.tap = m.offset(0, m.in) - m.offset(0, 0);
      rows.ahead = i + 1 < m.in ? m.offset(0, 1) - m.offset(0, 0) : 0;
      rows.row = m.in * m.out;
      rows.out = m.out;
      rows.taps = m.taps;
      rows.run(m.samples);
      for (int64_t n = 0; n < m.samples; ++n) {
        const A* sum = products.data() + n * m.out;
        ds[n * m.in + i] = narrow<T, A>(dot(sum, d ? d + n * m.out : ones.data(), m.out));
        if (!dd) continue;
        const A style = widen(s[n * m.in + i]);
        A* __restrict out = partial.data() + i / piece * size + n * m.out;
#pragma GCC ivdep
        for (int64_t o = 0; o < m.out; ++o) out[o] += style * sum[o];
      }
    }
  });
  if (dd) add_pieces(partial.data(), pieces, size, A(0), dd);
}

#define OPS_INSTANTIATE(T)                                                                                        \
  template void modulate_cpu<T>(const ModulateShape&, const T*, const T*, const wide_t<T>*, T*, const Parallel&); \
  template void modulate_grad_cpu<T>(const ModulateShape&, const T*, const T*, const T*, const wide_t<T>*, T*, T*, \
                                     wide_t<T>*, const Parallel&);
OPS_INSTANTIATE(float)
OPS_INSTANTIATE(double)
OPS_INSTANTIATE(Half)
OPS_INSTANTIATE(BFloat16)

}  // namespace ops
