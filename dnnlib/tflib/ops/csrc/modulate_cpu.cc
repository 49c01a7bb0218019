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

// The gradients that belong to one input map: dw[t, o] = sum over n of dy * s * d; with products[n, o] = sum over t of
// dy * w, ds[n] = sum over o of products * d, and products * s is added to dd[n, o]. Rows are read from end to end, as
// prefetching likes it, those of kTaps taps at a time: more, which often lie a power of two apart, would drive each other
// out of the caches. All else stays in the first-level cache.
template <typename T>
struct GradRows {
  using A = wide_t<T>;
  using V = lanes_t<A>;
  const T* dy;  // samples lie `sample` apart, taps `tap`
  const T* w;   // taps lie `row` apart, those of dw too
  const T* s;   // samples lie `maps` apart, those of ds too
  const A* d;   // samples lie `d_row` apart: `out`, or 0 where all have the same
  T *dw, *ds;
  A* dd;              // may be null
  A* products;        // [samples, out]: of the taps so far
  A *weights, *sums;  // kTaps rows of w, and the sums over samples so far, register by register of `out`
  int64_t sample, tap, row, maps, d_row, out;
  static constexpr int kTaps = 3, kGroup = 64 / kLaneBytes, kLanes = Lanes<A>::kSize;
  static constexpr int kAhead = 512;  // bytes; prefetching by itself does not get going in rows of that size

  template <int Taps>
  void pack(int64_t t0) const {
    A* to = weights;
    for_groups<1, A>(out, [&](auto, auto whole, int64_t o, int count) __attribute__((always_inline)) {
      for (int k = 0; k < Taps; ++k, to += kLanes) {
        store_lanes(to, load_some<whole.value>(w + (t0 + k) * row + o, count));
      }
    });
  }

  // One sample.
  template <int Taps, bool First, bool Last, bool Stream>
  __attribute__((noinline)) void block(int64_t n, int64_t t0, bool last_taps) const {
    const A style = widen(s[n * maps]);
    const A *factor = d + n * d_row, *weight = weights;
    A *kept = products + n * out, *total = dd ? dd + n * out : nullptr, *so_far = sums;
    const T* from[Taps];
    T* to[Taps];
    for (int k = 0; k < Taps; ++k) {
      from[k] = dy + n * sample + (t0 + k) * tap;
      to[k] = dw + (t0 + k) * row;
    }
    V dots = {};
    for_groups<kGroup, A>(out, [&](auto group, auto whole, int64_t o, int count) __attribute__((always_inline)) {
      constexpr bool kWhole = whole.value;
#pragma GCC unroll 4
      for (int j = 0; j < group.value; ++j, o += kLanes, weight += Taps * kLanes, so_far += Taps * kLanes) {
        const V by = load_some<kWhole>(factor + o, count);
        const V times = by * style;
        V product = t0 == 0 ? V{} : load_some<kWhole>(kept + o, count);
#pragma GCC unroll 4
        for (int k = 0; k < Taps; ++k) {
          if (j == 0) __builtin_prefetch(reinterpret_cast<const char*>(from[k] + o) + kAhead);
          const V g = in_register(load_some<kWhole>(from[k] + o, count));
          product += g * load_lanes(weight + k * kLanes);
          const V sum = First ? g * times : load_lanes(so_far + k * kLanes) + g * times;
          if (!Last) {
            store_lanes(so_far + k * kLanes, sum);
          } else if (kWhole) {
            put_lanes<Stream>(to[k] + o, sum);
          } else {
            store_some<kWhole, T, A>(to[k] + o, sum, count);
          }
        }
        if (!last_taps) {
          store_some<kWhole, A, A>(kept + o, product, count);
          continue;
        }
        dots += product * by;
        if (total) store_some<kWhole, A, A>(total + o, load_some<kWhole>(total + o, count) + product * style, count);
      }
    });
    if (last_taps) ds[n * maps] = narrow<T, A>(sum_lanes<A>(dots));
  }

  template <int Taps, bool Stream>
  void all_samples(int64_t samples, int64_t t0, bool last_taps) const {
    pack<Taps>(t0);
    if (samples == 1) return block<Taps, true, true, Stream>(0, t0, last_taps);
    block<Taps, true, false, Stream>(0, t0, last_taps);
    for (int64_t n = 1; n < samples - 1; ++n) block<Taps, false, false, Stream>(n, t0, last_taps);
    block<Taps, false, true, Stream>(samples - 1, t0, last_taps);
  }

  template <bool Stream>
  void run(int64_t samples, int64_t taps) const {
    int64_t t = 0;
    for (; t + kTaps <= taps; t += kTaps) all_samples<kTaps, Stream>(samples, t, t + kTaps == taps);
    for (; t < taps; ++t) all_samples<1, Stream>(samples, t, t + 1 == taps);
  }
};

}  // namespace

template <typename T>
void modulate_grad_cpu(const ModulateShape& m, const T* dy, const T* w, const T* s, const wide_t<T>* d, T* dw, T* ds,
                       wide_t<T>* dd, const Parallel& parallel) {
  using A = wide_t<T>;
  const int64_t piece = maps_of_piece(m, m.samples), pieces = (m.in + piece - 1) / piece, size = m.samples * m.out;
  if (m.samples == 0 || m.taps == 0) {
    std::fill(dw, dw + m.taps * m.in * m.out, T(0));
    std::fill(ds, ds + m.samples * m.in, T(0));
    if (dd) std::fill(dd, dd + size, A(0));
    return;
  }
  const bool stream = streams_lanes(dw, m.taps * m.in * m.out * (m.samples + 2), m.out);
  Scratch<A> partial(dd ? pieces * size : 0);
  const std::vector<A> ones(d ? 0 : m.out, A(1));
  parallel(pieces, piece * m.taps * size / 4 + 1, [&](int64_t begin, int64_t end) {
    const int64_t whole = (m.out + Lanes<A>::kSize - 1) / Lanes<A>::kSize * Lanes<A>::kSize;
    Room<A> products(size), weights(GradRows<T>::kTaps * whole), sums(GradRows<T>::kTaps * whole);
    for (int64_t i = begin * piece; i < std::min(end * piece, m.in); ++i) {
      GradRows<T> rows;
      rows.dy = dy + m.offset(0, i);
      rows.w = w + i * m.out;
      rows.s = s + i;
      rows.d = d ? d : ones.data();
      rows.dw = dw + i * m.out;
      rows.ds = ds + i;
      rows.dd = dd ? partial.data() + i / piece * size : nullptr;
      rows.products = products.data();
      rows.weights = weights.data();
      rows.sums = sums.data();
      rows.sample = m.offset(1, 0) - m.offset(0, 0);
      rows.tap = m.offset(0, m.in) - m.offset(0, 0);
      rows.row = m.in * m.out;
      rows.maps = m.in;
      rows.d_row = d ? m.out : 0;
      rows.out = m.out;
      stream ? rows.template run<true>(m.samples, m.taps) : rows.template run<false>(m.samples, m.taps);
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
