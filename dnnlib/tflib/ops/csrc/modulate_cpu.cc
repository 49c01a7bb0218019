// Modulation of convolution weights on CPUs.
#include <algorithm>
#include <cmath>

#include "cpu.h"

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
  parallel(m.taps * m.in, m.samples * m.out / 2 + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* wr = w + row * m.out;
      for (int64_t n = 0; n < m.samples; ++n) {
        const A style = widen(s[n * m.in + row % m.in]);
        T* yr = y + m.offset(n, row);
        if (d == nullptr) {
#pragma GCC ivdep
          for (int64_t o = 0; o < m.out; ++o) yr[o] = narrow<T, A>(widen(wr[o]) * style);
        } else {
          const A* dn = d + n * m.out;
#pragma GCC ivdep
          for (int64_t o = 0; o < m.out; ++o) yr[o] = narrow<T, A>(widen(wr[o]) * style * dn[o]);
        }
      }
    }
  });
}

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
    // For one input map: dw of all taps, and the sum over taps of dy * w.
    std::vector<A> dw_sum(m.taps * m.out), product(m.out);
    for (int64_t i = begin * piece; i < std::min(end * piece, m.in); ++i) {
      std::fill(dw_sum.begin(), dw_sum.end(), A(0));
      for (int64_t n = 0; n < m.samples; ++n) {
        const A style = widen(s[n * m.in + i]);
        const A* dn = d ? d + n * m.out : ones.data();
        A* sum = product.data();
        std::fill(sum, sum + m.out, A(0));
        for (int64_t t = 0; t < m.taps; ++t) {
          const T* g = dy + m.offset(n, t * m.in + i);
          const T* wr = w + (t * m.in + i) * m.out;
          A* dwr = dw_sum.data() + t * m.out;
#pragma GCC ivdep
          for (int64_t o = 0; o < m.out; ++o) {
            const A v = widen(g[o]);
            sum[o] += v * widen(wr[o]);
            dwr[o] += v * style * dn[o];
          }
        }
        A lanes[16] = {0};
        int64_t o = 0;
        for (; o + 16 <= m.out; o += 16) {
          for (int j = 0; j < 16; ++j) lanes[j] += sum[o + j] * dn[o + j];
        }
        for (; o < m.out; ++o) lanes[0] += sum[o] * dn[o];
        A total = 0;
        for (const A v : lanes) total += v;
        ds[n * m.in + i] = narrow<T, A>(total);
        if (dd) {
          A* out = partial.data() + (i / piece * m.samples + n) * m.out;
#pragma GCC ivdep
          for (o = 0; o < m.out; ++o) out[o] += style * sum[o];
        }
      }
      for (int64_t t = 0; t < m.taps; ++t) {
        for (int64_t o = 0; o < m.out; ++o) dw[(t * m.in + i) * m.out + o] = narrow<T, A>(dw_sum[t * m.out + o]);
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
