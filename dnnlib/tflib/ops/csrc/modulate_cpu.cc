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

// Sums over samples and over taps for one input map: dw[t, o] = sum over n of dy * factor, product[n, o] = sum over taps
// of dy * w. Rows are read from end to end, as prefetching likes it, some taps at a time; all but dy and w stays in the
// first-level cache. Samples of dy lie `sample` apart, taps `tap`.
template <typename T>
struct GradRows {
  using A = wide_t<T>;
  const T* dy;
  const T* w;
  const A* factor;
  A* product;
  T* dw;
  A* sums;  // [kTaps, out]: of the samples so far
  int64_t sample, tap, row, out, taps;  // `row`: from tap to tap of w and dw
  static constexpr int kTaps = 3;       // at a time: a third of 3x3, which saves most loads of products and factors

  template <int Taps, int Samples, bool Stream>
  OPS_HD void block(int64_t t, int64_t n0, bool last) const {
    using V = lanes_t<A>;
    const T *from = dy + t * tap + n0 * sample, *weights = w + t * row;
    T* to = dw + t * row;
    for_groups<1, A>(out, [&](auto, auto whole, int64_t o, int count) __attribute__((always_inline)) {
      constexpr bool kWhole = whole.value;
      V weight[Taps], sum[Taps];
      for (int k = 0; k < Taps; ++k) {
        weight[k] = load_some<kWhole>(weights + k * row + o, count);
        sum[k] = n0 == 0 ? V{} : load_some<kWhole>(sums + k * out + o, count);
      }
      for (int n = 0; n < Samples; ++n) {
        A* product_at = product + (n0 + n) * out + o;
        const V by = load_some<kWhole>(factor + (n0 + n) * out + o, count);
        V products = t == 0 ? V{} : load_some<kWhole>(product_at, count);
        for (int k = 0; k < Taps; ++k) {
          const V g = load_some<kWhole>(from + k * tap + n * sample + o, count);
          sum[k] += g * by;
          products += g * weight[k];
        }
        store_some<kWhole, A, A>(product_at, products, count);
      }
      for (int k = 0; k < Taps; ++k) {
        if (!last) {
          store_some<kWhole, A, A>(sums + k * out + o, sum[k], count);
        } else if (kWhole) {
          put_lanes<Stream>(to + k * row + o, sum[k]);
        } else {
          store_some<kWhole, T, A>(to + k * row + o, sum[k], count);
        }
      }
    });
  }

  template <int Taps, bool Stream>
  OPS_HD void of_taps(int64_t t, int64_t samples) const {
    int64_t n = 0;
    for (; n + 4 <= samples; n += 4) block<Taps, 4, Stream>(t, n, n + 4 == samples);
    for (; n < samples; ++n) block<Taps, 1, Stream>(t, n, n + 1 == samples);
  }

  template <bool Stream>
  void run(int64_t samples) const {
    int64_t t = 0;
    for (; t + kTaps <= taps; t += kTaps) of_taps<kTaps, Stream>(t, samples);
    for (; t < taps; ++t) of_taps<1, Stream>(t, samples);
  }
};

}  // namespace

template <typename T>
void modulate_grad_cpu(const ModulateShape& m, const T* dy, const T* w, const T* s, const wide_t<T>* d, T* dw, T* ds,
                       wide_t<T>* dd, const Parallel& parallel) {
  using A = wide_t<T>;
  const int64_t piece = maps_of_piece(m), pieces = (m.in + piece - 1) / piece, size = m.samples * m.out;
  if (m.samples == 0) std::fill(dw, dw + m.taps * m.in * m.out, T(0));
  const bool stream = streams_lanes(dw, m.taps * m.in * m.out * (m.samples + 2), m.out);
  Scratch<A> partial(dd ? pieces * size : 0);
  const std::vector<A> ones(d ? 0 : m.out, A(1));
  parallel(pieces, piece * m.taps * size / 4 + 1, [&](int64_t begin, int64_t end) {
    Scratch<A> products(size), factors(size), sums(GradRows<T>::kTaps * m.out);
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
      rows.row = m.in * m.out;
      rows.out = m.out;
      rows.taps = m.taps;
      stream ? rows.template run<true>(m.samples) : rows.template run<false>(m.samples);
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
    if (stream) stream_end();
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
