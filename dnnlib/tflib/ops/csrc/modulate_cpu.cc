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
  std::fill(d, d + size, A(eps));
  for (int64_t k = 0; k < pieces; ++k) {
    for (int64_t j = 0; j < size; ++j) d[j] += partial[k * size + j];
  }
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

template <bool Whole, typename T>
OPS_HD lanes_t<wide_t<T>> load_some(const T* p, int count) {
  if constexpr (Whole) return load_lanes(p);
  lanes_t<wide_t<T>> v = {};
  for (int i = 0; i < count; ++i) v[i] = widen(p[i]);
  return v;
}

// Taps taps of one input map, Group registers of neighbouring outputs (`count` numbers of the only one where not
// Whole), all samples: dw, and per sample the sum over taps of dy * w, which is added to `product`.
template <int Taps, int Group, bool Whole, typename T, typename A>
inline void grad_block(const ModulateShape& m, const T* dy, const T* w, const T* s, const A* d, int64_t i,
                       int64_t first, int64_t o, int count, T* dw, A* product) {
  using V = lanes_t<A>;
  constexpr int kLanes = Lanes<A>::kSize;
  const int64_t tap_step = m.grouped ? m.in * m.samples * m.out : m.in * m.out;
  V weight[Taps][Group], dw_sum[Taps][Group];
  for (int t = 0; t < Taps; ++t) {
    for (int k = 0; k < Group; ++k) {
      dw_sum[t][k] = V{};
      weight[t][k] = load_some<Whole>(w + ((first + t) * m.in + i) * m.out + o + k * kLanes, count);
    }
  }
  for (int64_t n = 0; n < m.samples; ++n) {
    const A style = widen(s[n * m.in + i]);
    const T* upstream = dy + m.offset(n, first * m.in + i) + o;
    for (int k = 0; k < Group; ++k) {
      const V factor = (d ? load_some<Whole>(d + n * m.out + o + k * kLanes, count) : same_lanes(A(1))) * style;
      V sum = {};
      for (int t = 0; t < Taps; ++t) {
        const V g = load_some<Whole>(upstream + t * tap_step + k * kLanes, count);
        sum += g * weight[t][k];
        dw_sum[t][k] += g * factor;
      }
      A* to = product + n * m.out + o + k * kLanes;
      if constexpr (Whole) {
        store_lanes(to, load_lanes(to) + sum);
      } else {
        for (int j = 0; j < count; ++j) to[j] += sum[j];
      }
    }
  }
  for (int t = 0; t < Taps; ++t) {
    for (int k = 0; k < Group; ++k) {
      T* out = dw + ((first + t) * m.in + i) * m.out + o + k * kLanes;
      if constexpr (Whole) {
        store_lanes(out, dw_sum[t][k]);
      } else {
        for (int j = 0; j < count; ++j) out[j] = narrow<T, A>(dw_sum[t][k][j]);
      }
    }
  }
}

// The same for all outputs.
template <int Taps, int Group, typename T, typename A>
inline void grad_taps(const ModulateShape& m, const T* dy, const T* w, const T* s, const A* d, int64_t i, int64_t first,
                      T* dw, A* product) {
  constexpr int kLanes = Lanes<A>::kSize;
  int64_t o = 0;
  for (; o + Group * kLanes <= m.out; o += Group * kLanes) {
    grad_block<Taps, Group, true>(m, dy, w, s, d, i, first, o, 0, dw, product);
  }
  for (; o + kLanes <= m.out; o += kLanes) grad_block<Taps, 1, true>(m, dy, w, s, d, i, first, o, 0, dw, product);
  if (o < m.out) grad_block<Taps, 1, false>(m, dy, w, s, d, i, first, o, static_cast<int>(m.out - o), dw, product);
}

}  // namespace

template <typename T>
void modulate_grad_cpu(const ModulateShape& m, const T* dy, const T* w, const T* s, const wide_t<T>* d, T* dw, T* ds,
                       wide_t<T>* dd, const Parallel& parallel) {
  using A = wide_t<T>;
  const int64_t piece = std::max<int64_t>((m.in + kPieces - 1) / kPieces, 1);
  const int64_t pieces = (m.in + piece - 1) / piece;
  std::vector<A> partial(dd ? pieces * m.samples * m.out : 0);
  const std::vector<A> ones(d ? 0 : m.out, A(1));
  parallel(pieces, piece * m.taps * m.samples * m.out + 1, [&](int64_t begin, int64_t end) {
    std::vector<A> product(m.samples * m.out);  // sum over taps of dy * w, for one input map
    for (int64_t i = begin * piece; i < std::min(end * piece, m.in); ++i) {
      std::fill(product.begin(), product.end(), A(0));
      int64_t first = 0;
      for (; first + 3 <= m.taps; first += 3) grad_taps<3, 2>(m, dy, w, s, d, i, first, dw, product.data());
      for (; first < m.taps; ++first) grad_taps<1, 2>(m, dy, w, s, d, i, first, dw, product.data());
      for (int64_t n = 0; n < m.samples; ++n) {
        const A style = widen(s[n * m.in + i]);
        const A* dn = d ? d + n * m.out : ones.data();
        const A* sum = product.data() + n * m.out;
        A lanes[16] = {0};
        int64_t o = 0;
        for (; o + 16 <= m.out; o += 16) {
          for (int j = 0; j < 16; ++j) lanes[j] += sum[o + j] * dn[o + j];
        }
        for (; o < m.out; ++o) lanes[0] += sum[o] * dn[o];
        A total = 0;
        for (const A v : lanes) total += v;
        ds[n * m.in + i] = narrow<T, A>(total);
        if (!dd) continue;
        A* out = partial.data() + (i / piece * m.samples + n) * m.out;
#pragma GCC ivdep
        for (o = 0; o < m.out; ++o) out[o] += style * sum[o];
      }
    }
  });
  for (int64_t i = 0; dd && i < m.samples * m.out; ++i) {
    A total = 0;
    for (int64_t k = 0; k < pieces; ++k) total += partial[k * m.samples * m.out + i];
    dd[i] = total;
  }
}

#define OPS_INSTANTIATE(T)                                                                                         \
  template void demodulation_cpu<T>(const ModulateShape&, double, const T*, const T*, wide_t<T>*, const Parallel&); \
  template void modulate_cpu<T>(const ModulateShape&, const T*, const T*, const wide_t<T>*, T*, const Parallel&);  \
  template void modulate_grad_cpu<T>(const ModulateShape&, const T*, const T*, const T*, const wide_t<T>*, T*, T*, \
                                     wide_t<T>*, const Parallel&);
OPS_INSTANTIATE(float)
OPS_INSTANTIATE(double)
OPS_INSTANTIATE(Half)
OPS_INSTANTIATE(BFloat16)

}  // namespace ops
