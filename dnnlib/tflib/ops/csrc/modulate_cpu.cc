// Modulation of convolution weights on CPUs.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu.h"
#include "stream.h"

namespace ops {

template <typename T>
void demodulation_cpu(const ModulateShape& m, double eps, const T* w, const T* s, wide_t<T>* d,
                      const Parallel& parallel) {
  using A = wide_t<T>;
  // The sum over taps does not depend on the sample: [in, out] squares, then one product with the squared styles.
  std::vector<A> squares(m.in * m.out);
  parallel(m.in, m.taps * m.out / 4 + 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      A* sum = squares.data() + i * m.out;
      std::fill(sum, sum + m.out, A(0));
      for (int64_t t = 0; t < m.taps; ++t) {
        const T* row = w + (t * m.in + i) * m.out;
#pragma GCC ivdep
        for (int64_t o = 0; o < m.out; ++o) sum[o] += widen(row[o]) * widen(row[o]);
      }
    }
  });
  parallel(m.samples, m.in * m.out / 4 + 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      A* dn = d + n * m.out;
      std::fill(dn, dn + m.out, A(eps));
      for (int64_t i = 0; i < m.in; ++i) {
        const A style = widen(s[n * m.in + i]) * widen(s[n * m.in + i]);
        const A* sum = squares.data() + i * m.out;
#pragma GCC ivdep
        for (int64_t o = 0; o < m.out; ++o) dn[o] += style * sum[o];
      }
      for (int64_t o = 0; o < m.out; ++o) dn[o] = A(1) / std::sqrt(dn[o]);
    }
  });
}

template <typename T>
void modulate_cpu(const ModulateShape& m, const T* w, const T* s, const wide_t<T>* d, T* y, const Parallel& parallel) {
  using A = wide_t<T>;
  // All samples of one row of w while it is in the cache.
  const bool stream = streams(m.samples * m.taps * m.in * m.out * static_cast<int64_t>(sizeof(T)));
  const std::vector<A> ones(d ? 0 : m.out, A(1));
  parallel(m.taps * m.in, m.samples * m.out / 2 + 1, [&](int64_t begin, int64_t end) {
    std::vector<T> staged(stream ? m.out : 0);
    for (int64_t row = begin; row < end; ++row) {
      const T* wr = w + row * m.out;
      for (int64_t n = 0; n < m.samples; ++n) {
        const A style = widen(s[n * m.in + row % m.in]);
        const A* __restrict dn = d ? d + n * m.out : ones.data();
        T* target = y + m.offset(n, row);
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

// A register of numbers; compilers split it where registers are shorter.
template <typename A>
struct Lanes {
  static constexpr int kSize = 64 / sizeof(A);
  typedef A type __attribute__((vector_size(64)));
};

template <typename T, typename V>
inline V load_lanes(const T* p, int count) {
  V v = {0};
  if constexpr (sizeof(T) == sizeof(v[0])) {
    std::memcpy(&v, p, count * sizeof(T));
  } else {
    for (int i = 0; i < count; ++i) v[i] = widen(p[i]);
  }
  return v;
}

// Up to Taps taps of one input map, `count` neighbouring outputs, all samples: dw, and per sample the sum over taps of
// dy * w, which is added to `product`.
template <int Taps, typename T, typename A>
inline void grad_block(const ModulateShape& m, const T* dy, const T* w, const T* s, const A* d, int64_t i, int64_t first,
                       int64_t o, int count, T* dw, A* product) {
  using V = typename Lanes<A>::type;
  const int taps = static_cast<int>(std::min<int64_t>(Taps, m.taps - first));
  V weight[Taps], dw_sum[Taps];
  for (int t = 0; t < Taps; ++t) {
    dw_sum[t] = V{0};
    weight[t] = t < taps ? load_lanes<T, V>(w + ((first + t) * m.in + i) * m.out + o, count) : V{0};
  }
  for (int64_t n = 0; n < m.samples; ++n) {
    const V factor = (d ? load_lanes<A, V>(d + n * m.out + o, count) : V{0} + A(1)) * widen(s[n * m.in + i]);
    V sum = {0};
    for (int t = 0; t < Taps; ++t) {
      if (t >= taps) break;
      const V g = load_lanes<T, V>(dy + m.offset(n, (first + t) * m.in + i) + o, count);
      sum += g * weight[t];
      dw_sum[t] += g * factor;
    }
    for (int j = 0; j < count; ++j) product[n * m.out + o + j] += sum[j];
  }
  for (int t = 0; t < taps; ++t) {
    T* out = dw + ((first + t) * m.in + i) * m.out + o;
    for (int j = 0; j < count; ++j) out[j] = narrow<T, A>(dw_sum[t][j]);
  }
}

}  // namespace

template <typename T>
void modulate_grad_cpu(const ModulateShape& m, const T* dy, const T* w, const T* s, const wide_t<T>* d, T* dw, T* ds,
                       wide_t<T>* dd, const Parallel& parallel) {
  using A = wide_t<T>;
  constexpr int64_t kPieces = 16;  // partial sums of dd
  const int64_t piece = std::max<int64_t>((m.in + kPieces - 1) / kPieces, 1);
  const int64_t pieces = (m.in + piece - 1) / piece;
  std::vector<A> partial(dd ? pieces * m.samples * m.out : 0);
  const std::vector<A> ones(d ? 0 : m.out, A(1));
  parallel(pieces, piece * m.taps * m.samples * m.out + 1, [&](int64_t begin, int64_t end) {
    std::vector<A> product(m.samples * m.out);  // sum over taps of dy * w, for one input map
    constexpr int kLanes = Lanes<A>::kSize, kTaps = 9;
    for (int64_t i = begin * piece; i < std::min(end * piece, m.in); ++i) {
      std::fill(product.begin(), product.end(), A(0));
      for (int64_t first = 0; first < m.taps; first += kTaps) {
        int64_t o = 0;
        for (; o + kLanes <= m.out; o += kLanes) {
          grad_block<kTaps>(m, dy, w, s, d, i, first, o, kLanes, dw, product.data());
        }
        if (o < m.out) grad_block<kTaps>(m, dy, w, s, d, i, first, o, static_cast<int>(m.out - o), dw, product.data());
      }
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
