// Modulation of convolution weights on CPUs.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu.h"
#include "lanes.h"
#include "stream.h"

namespace ops {
namespace {

constexpr int64_t kPieces = 16;  // of the input maps: partial sums

// sum[j] = start + the sum over pieces, in their order.
template <typename A>
inline void add_pieces(const A* partial, int64_t pieces, int64_t size, A start, A* __restrict sum) {
  std::fill(sum, sum + size, start);
  for (int64_t k = 0; k < pieces; ++k) {
#pragma GCC ivdep
    for (int64_t j = 0; j < size; ++j) sum[j] += partial[k * size + j];
  }
}

}  // namespace

template <typename T>
void demodulation_cpu(const ModulateShape& m, double eps, const T* w, const T* s, wide_t<T>* d,
                      const Parallel& parallel) {
  using A = wide_t<T>;
  // The sum over taps does not depend on the sample: squares of one input map, then their products with all styles.
  const int64_t piece = std::max<int64_t>((m.in + kPieces - 1) / kPieces, 1), pieces = (m.in + piece - 1) / piece;
  const int64_t size = m.samples * m.out;
  std::vector<A> partial(pieces * size, A(0));
  parallel(pieces, piece * (m.taps + m.samples) * m.out / 4 + 1, [&](int64_t begin, int64_t end) {
    std::vector<A> squares(m.out);
    A* __restrict sum = squares.data();
    for (int64_t i = begin * piece; i < std::min(end * piece, m.in); ++i) {
      std::fill(squares.begin(), squares.end(), A(0));
      for (int64_t t = 0; t < m.taps; ++t) {
        const T* row = w + (t * m.in + i) * m.out;
#pragma GCC ivdep
        for (int64_t o = 0; o < m.out; ++o) sum[o] += widen(row[o]) * widen(row[o]);
      }
      for (int64_t n = 0; n < m.samples; ++n) {
        const A style = widen(s[n * m.in + i]) * widen(s[n * m.in + i]);
        A* __restrict of_sample = partial.data() + i / piece * size + n * m.out;
#pragma GCC ivdep
        for (int64_t o = 0; o < m.out; ++o) of_sample[o] += style * sum[o];
      }
    }
  });
  add_pieces(partial.data(), pieces, size, A(eps), d);
  for (int64_t j = 0; j < size; ++j) d[j] = A(1) / std::sqrt(d[j]);
}

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

constexpr int kGroup = 4;  // registers of neighbouring outputs that a sum over samples is kept in

template <bool Whole, typename T>
OPS_HD lanes_t<wide_t<T>> load_some(const T* p, int count) {
  if constexpr (Whole) return load_lanes(p);
  lanes_t<wide_t<T>> v = {};
  for (int i = 0; i < count; ++i) v[i] = widen(p[i]);
  return v;
}

template <bool Whole, typename T, typename A>
OPS_HD void store_some(T* p, lanes_t<A> v, int count) {
  if constexpr (Whole) {
    store_lanes(p, v);
  } else {
    for (int i = 0; i < count; ++i) p[i] = narrow<T, A>(v[i]);
  }
}

// One row of weights (a tap of an input map), Group registers of neighbouring outputs from o on (`count` numbers of the
// only one where not Whole), all samples: dw = sum of dy * factor, and product[n, o] += dy * w. Samples of dy lie
// `step` apart; what stands `ahead` will be needed soon.
template <int Group, bool Whole, typename T, typename A>
inline void grad_block(const T* dy, int64_t step, int64_t ahead, const T* w, const A* factor, const ModulateShape& m,
                       int64_t o, int count, T* dw, A* product) {
  using V = lanes_t<A>;
  constexpr int kLanes = Lanes<A>::kSize;
  V weight[Group], sum[Group];
  for (int k = 0; k < Group; ++k) {
    weight[k] = load_some<Whole>(w + o + k * kLanes, count);
    sum[k] = V{};
  }
  for (int64_t n = 0; n < m.samples; ++n) {
    const T* upstream = dy + n * step + o;
    const A* f = factor + n * m.out + o;
    A* to = product + n * m.out + o;
#pragma GCC unroll 4
    for (int k = 0; k < Group; ++k) {
      __builtin_prefetch(upstream + ahead + k * kLanes, 0, 2);
      const V g = load_some<Whole>(upstream + k * kLanes, count);
      sum[k] += g * load_some<Whole>(f + k * kLanes, count);
      store_some<Whole, A, A>(to + k * kLanes, load_some<Whole>(to + k * kLanes, count) + g * weight[k], count);
    }
  }
  for (int k = 0; k < Group; ++k) store_some<Whole, T, A>(dw + o + k * kLanes, sum[k], count);
}

// Sum of a[o] * b[o].
template <typename A>
inline A dot(const A* a, const A* b, int64_t n) {
  A lanes[16] = {0};
  int64_t o = 0;
  for (; o + 16 <= n; o += 16) {
    for (int j = 0; j < 16; ++j) lanes[j] += a[o + j] * b[o + j];
  }
  for (; o < n; ++o) lanes[0] += a[o] * b[o];
  A total = 0;
  for (const A v : lanes) total += v;
  return total;
}

}  // namespace

template <typename T>
void modulate_grad_cpu(const ModulateShape& m, const T* dy, const T* w, const T* s, const wide_t<T>* d, T* dw, T* ds,
                       wide_t<T>* dd, const Parallel& parallel) {
  using A = wide_t<T>;
  constexpr int kLanes = Lanes<A>::kSize;
  const int64_t piece = std::max<int64_t>((m.in + kPieces - 1) / kPieces, 1);
  const int64_t pieces = (m.in + piece - 1) / piece, size = m.samples * m.out;
  Scratch<A> partial(dd ? pieces * size : 0);
  const std::vector<A> ones(d ? 0 : m.out, A(1));
  const int64_t step = m.offset(1, 0) - m.offset(0, 0), next = m.offset(0, 1) - m.offset(0, 0);
  parallel(pieces, piece * m.taps * size + 1, [&](int64_t begin, int64_t end) {
    Scratch<A> products(size), factors(size);  // sum over taps of dy * w, and s * d, for one input map
    A *__restrict product = products.data(), *__restrict factor = factors.data();
    for (int64_t i = begin * piece; i < std::min(end * piece, m.in); ++i) {
      std::fill(product, product + size, A(0));
      for (int64_t n = 0; n < m.samples; ++n) {
        const A style = widen(s[n * m.in + i]);
        const A* dn = d ? d + n * m.out : ones.data();
#pragma GCC ivdep
        for (int64_t o = 0; o < m.out; ++o) factor[n * m.out + o] = dn[o] * style;
      }
      for (int64_t t = 0; t < m.taps; ++t) {
        const int64_t row = t * m.in + i, ahead = row + 1 < m.taps * m.in ? next : 0;
        const T *from = dy + m.offset(0, row), *wr = w + row * m.out;
        T* to = dw + row * m.out;
        int64_t o = 0;
        for (; o + kGroup * kLanes <= m.out; o += kGroup * kLanes) {
          grad_block<kGroup, true>(from, step, ahead, wr, factor, m, o, 0, to, product);
        }
        for (; o + kLanes <= m.out; o += kLanes) {
          grad_block<1, true>(from, step, ahead, wr, factor, m, o, 0, to, product);
        }
        if (o < m.out) {
          grad_block<1, false>(from, step, ahead, wr, factor, m, o, static_cast<int>(m.out - o), to, product);
        }
      }
      for (int64_t n = 0; n < m.samples; ++n) {
        const A* sum = product + n * m.out;
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

template <typename T>
void demodulation_grad_cpu(const ModulateShape& m, const T* w, const T* s, const wide_t<T>* d, const wide_t<T>* dd,
                           bool add, T* dw, T* ds, const Parallel& parallel) {
  using A = wide_t<T>;
  // d = q^(-1/2), q = sum of (w * s)^2 + eps: what every square is multiplied by in the gradient, times 2.
  Scratch<A> twice_dq_of(m.samples * m.out);
  A* twice_dq = twice_dq_of.data();
  for (int64_t j = 0; j < m.samples * m.out; ++j) twice_dq[j] = -d[j] * d[j] * d[j] * dd[j];
  const int64_t piece = std::max<int64_t>((m.in + kPieces - 1) / kPieces, 1), pieces = (m.in + piece - 1) / piece;
  parallel(pieces, piece * (m.taps + m.samples) * m.out / 2 + 1, [&](int64_t begin, int64_t end) {
    Scratch<A> factors(piece * m.out), sums(piece * m.out);
    A *__restrict factor = factors.data(), *__restrict squares = sums.data();
    for (int64_t k = begin; k < end; ++k) {
      const int64_t first = k * piece, maps = std::min(piece, m.in - first);
      std::fill(factor, factor + maps * m.out, A(0));
      std::fill(squares, squares + maps * m.out, A(0));
      for (int64_t i = 0; i < maps; ++i) {
        for (int64_t n = 0; n < m.samples; ++n) {
          const A style = widen(s[n * m.in + first + i]) * widen(s[n * m.in + first + i]);
          const A* dq = twice_dq + n * m.out;
#pragma GCC ivdep
          for (int64_t o = 0; o < m.out; ++o) factor[i * m.out + o] += style * dq[o];
        }
      }
      for (int64_t t = 0; t < m.taps; ++t) {  // the maps of a piece lie side by side
        const T* __restrict from = w + (t * m.in + first) * m.out;
        T* __restrict to = dw + (t * m.in + first) * m.out;
#pragma GCC ivdep
        for (int64_t j = 0; j < maps * m.out; ++j) {
          const A v = widen(from[j]);
          squares[j] += v * v;
          to[j] = narrow<T, A>((add ? widen(to[j]) : A(0)) + v * factor[j]);
        }
      }
      for (int64_t i = 0; i < maps; ++i) {
        for (int64_t n = 0; n < m.samples; ++n) {
          T& of_style = ds[n * m.in + first + i];
          const A product = dot(squares + i * m.out, twice_dq + n * m.out, m.out);
          const A base = add ? widen(of_style) : A(0);
          of_style = narrow<T, A>(base + widen(s[n * m.in + first + i]) * product);
        }
      }
    }
  });
}

#define OPS_INSTANTIATE(T)                                                                                         \
  template void demodulation_cpu<T>(const ModulateShape&, double, const T*, const T*, wide_t<T>*, const Parallel&); \
  template void modulate_cpu<T>(const ModulateShape&, const T*, const T*, const wide_t<T>*, T*, const Parallel&);  \
  template void modulate_grad_cpu<T>(const ModulateShape&, const T*, const T*, const T*, const wide_t<T>*, T*, T*, \
                                     wide_t<T>*, const Parallel&);                                                \
  template void demodulation_grad_cpu<T>(const ModulateShape&, const T*, const T*, const wide_t<T>*,              \
                                         const wide_t<T>*, bool, T*, T*, const Parallel&);
OPS_INSTANTIATE(float)
OPS_INSTANTIATE(double)
OPS_INSTANTIATE(Half)
OPS_INSTANTIATE(BFloat16)

}  // namespace ops
