// Demodulation factors of convolution weights, and their gradient, on CPUs.
#include <cmath>

#include "weight_rows.h"

namespace ops {
namespace {

// Squares of the styles.
template <typename T, typename A>
void square(const ModulateShape& m, const T* s, A* out) {
  for (int64_t j = 0; j < m.samples * m.in; ++j) out[j] = widen(s[j]) * widen(s[j]);
}

// squares[i, o] = sum over taps of w^2, for some input maps.
template <typename T, typename A>
void sum_squares(const ModulateShape& m, const T* w, int64_t first, int64_t maps, A* squares) {
  using V = lanes_t<A>;
  for (int64_t i = 0; i < maps; ++i) {
    const T* row = w + (first + i) * m.out;
    const int64_t step = m.in * m.out;
    for_groups<4, A>(m.out, [&](auto group, auto whole, int64_t o, int count) __attribute__((always_inline)) {
      constexpr int kGroup = group.value, kLanes = Lanes<A>::kSize;
      V sum[kGroup] = {};
      for (int64_t t = 0; t < m.taps; ++t) {
        for (int j = 0; j < kGroup; ++j) {
          const V v = load_some<whole.value>(row + t * step + o + j * kLanes, count);
          sum[j] += v * v;
        }
      }
      A* to = squares + i * m.out + o;
      for (int j = 0; j < kGroup; ++j) store_some<whole.value, A, A>(to + j * kLanes, sum[j], count);
    });
  }
}

}  // namespace

template <typename T>
void demodulation_cpu(const ModulateShape& m, double eps, const T* w, const T* s, wide_t<T>* d,
                      const Parallel& parallel) {
  using A = wide_t<T>;
  // The sum over taps does not depend on the sample: squares of some input maps, then their products with all styles.
  const int64_t piece = maps_of_piece(m), pieces = (m.in + piece - 1) / piece, size = m.samples * m.out;
  Scratch<A> partial(pieces * size), styles(m.samples * m.in);
  square(m, s, styles.data());
  parallel(pieces, piece * (m.taps + m.samples) * m.out / 4 + 1, [&](int64_t begin, int64_t end) {
    Scratch<A> squares(piece * m.out);
    for (int64_t k = begin; k < end; ++k) {
      const int64_t first = k * piece, maps = std::min(piece, m.in - first);
      sum_squares(m, w, first, maps, squares.data());
      multiply(styles.data() + first, m.in, 1, squares.data(), partial.data() + k * size, m.samples, maps, m.out);
    }
  });
  add_pieces(partial.data(), pieces, size, A(eps), d);
  for (int64_t j = 0; j < size; ++j) d[j] = A(1) / std::sqrt(d[j]);
}

template <typename T>
void demodulation_grad_cpu(const ModulateShape& m, const T* w, const T* s, const wide_t<T>* d, const wide_t<T>* dd,
                           bool add, T* dw, T* ds, const Parallel& parallel) {
  using A = wide_t<T>;
  // d = q^(-1/2), q = sum of (w * s)^2 + eps: what every square is multiplied by in the gradient, times 2.
  const int64_t row = (m.samples + Lanes<A>::kSize - 1) / Lanes<A>::kSize * Lanes<A>::kSize;  // samples, whole registers
  Scratch<A> twice_dq(m.samples * m.out), by_sample(m.out * row), styles(m.samples * m.in);
  A* __restrict dq = twice_dq.data();
#pragma GCC ivdep
  for (int64_t j = 0; j < m.samples * m.out; ++j) dq[j] = -d[j] * d[j] * d[j] * dd[j];
  for (int64_t o = 0; o < m.out; ++o) {
    for (int64_t n = 0; n < m.samples; ++n) by_sample.data()[o * row + n] = dq[n * m.out + o];
  }
  square(m, s, styles.data());
  const int64_t piece = maps_of_piece(m), pieces = (m.in + piece - 1) / piece;
  parallel(pieces, piece * (2 * m.taps + 2 * m.samples) * m.out / 4 + 1, [&](int64_t begin, int64_t end) {
    Scratch<A> factors(piece * m.out), squares(piece * m.out), of_styles(piece * row);
    for (int64_t k = begin; k < end; ++k) {
      const int64_t first = k * piece, maps = std::min(piece, m.in - first);
      multiply(styles.data() + first, 1, m.in, twice_dq.data(), factors.data(), maps, m.samples, m.out);
      sum_squares(m, w, first, maps, squares.data());
      const A* __restrict factor = factors.data();
      for (int64_t t = 0; t < m.taps; ++t) {  // the maps of a piece lie side by side
        const T* __restrict from = w + (t * m.in + first) * m.out;
        T* __restrict to = dw + (t * m.in + first) * m.out;
        if (add) {
#pragma GCC ivdep
          for (int64_t j = 0; j < maps * m.out; ++j) to[j] = narrow<T, A>(widen(to[j]) + widen(from[j]) * factor[j]);
        } else {
#pragma GCC ivdep
          for (int64_t j = 0; j < maps * m.out; ++j) to[j] = narrow<T, A>(widen(from[j]) * factor[j]);
        }
      }
      // Sums over the output maps, registers of samples: within a register they would take longer than all the rest.
      multiply(squares.data(), m.out, 1, by_sample.data(), of_styles.data(), maps, m.out, row);
      for (int64_t n = 0; n < m.samples; ++n) {
        for (int64_t i = 0; i < maps; ++i) {
          T& to = ds[n * m.in + first + i];
          const A base = add ? widen(to) : A(0);
          to = narrow<T, A>(base + widen(s[n * m.in + first + i]) * of_styles.data()[i * row + n]);
        }
      }
    }
  });
}

#define OPS_INSTANTIATE(T)                                                                                          \
  template void demodulation_cpu<T>(const ModulateShape&, double, const T*, const T*, wide_t<T>*, const Parallel&); \
  template void demodulation_grad_cpu<T>(const ModulateShape&, const T*, const T*, const wide_t<T>*,                \
                                         const wide_t<T>*, bool, T*, T*, const Parallel&);
OPS_INSTANTIATE(float)
OPS_INSTANTIATE(double)
OPS_INSTANTIATE(Half)
OPS_INSTANTIATE(BFloat16)

}  // namespace ops
