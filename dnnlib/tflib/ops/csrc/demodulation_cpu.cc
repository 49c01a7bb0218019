// Demodulation factors of convolution weights, their gradient, and what all further derivatives are made of, on CPUs.
#include <cmath>

#include "weight_rows.h"

namespace ops {
namespace {

// Products of the styles, number by number.
template <typename T, typename A>
void multiply_styles(const ModulateShape& m, const T* s1, const T* s2, A* out) {
  for (int64_t j = 0; j < m.samples * m.in; ++j) out[j] = widen(s1[j]) * widen(s2[j]);
}

// sums[i, o] = sum over taps of w1 * w2, for some input maps. Same: w2 is w1.
template <bool Same, typename T, typename A>
void sum_taps(const ModulateShape& m, const T* w1, const T* w2, int64_t first, int64_t maps, A* sums) {
  using V = lanes_t<A>;
  for (int64_t i = 0; i < maps; ++i) {
    const int64_t row = (first + i) * m.out, step = m.in * m.out;
    for_groups<4, A>(m.out, [&](auto group, auto whole, int64_t o, int count) __attribute__((always_inline)) {
      constexpr int kGroup = group.value, kLanes = Lanes<A>::kSize;
      V sum[kGroup] = {};
      for (int64_t t = 0; t < m.taps; ++t) {
        for (int j = 0; j < kGroup; ++j) {
          const int64_t at = row + t * step + o + j * kLanes;
          const V v = load_some<whole.value>(w1 + at, count);
          sum[j] += v * (Same ? v : load_some<whole.value>(w2 + at, count));
        }
      }
      A* to = sums + i * m.out + o;
      for (int j = 0; j < kGroup; ++j) store_some<whole.value, A, A>(to + j * kLanes, sum[j], count);
    });
  }
}

template <typename T, typename A>
void sum_taps(const ModulateShape& m, const T* w1, const T* w2, int64_t first, int64_t maps, A* sums) {
  w1 == w2 ? sum_taps<true>(m, w1, w2, first, maps, sums) : sum_taps<false>(m, w1, w2, first, maps, sums);
}

// Numbers of some input maps, which lie side by side, at Taps of their taps: sums of squares, those of taps before
// included unless First, and dw = w * factor, added to what was there if Add.
template <int Taps, bool First, bool Add, typename T, typename A>
__attribute__((noinline)) void run_of_taps(const T* w, const A* factors, int64_t step, int64_t numbers, A* squares,
                                           T* dw) {
  constexpr int kGroup = 64 / kLaneBytes, kAhead = 512;  // bytes
  for_groups<kGroup, A>(numbers, [&](auto group, auto whole, int64_t o, int count) __attribute__((always_inline)) {
    constexpr bool kWhole = whole.value;
#pragma GCC unroll 4
    for (int j = 0; j < group.value; ++j, o += Lanes<A>::kSize) {
      lanes_t<A> sum = {};
      if (!First) sum = load_some<kWhole>(squares + o, count);
      const lanes_t<A> factor = load_some<kWhole>(factors + o, count);
#pragma GCC unroll 4
      for (int k = 0; k < Taps; ++k) {
        const int64_t at = k * step + o;
        if (j == 0) __builtin_prefetch(reinterpret_cast<const char*>(w + at) + kAhead);
        const lanes_t<A> v = in_register(load_some<kWhole>(w + at, count));
        sum += v * v;
        lanes_t<A> product = v * factor;
        if (Add) product += load_some<kWhole>(dw + at, count);
        store_some<kWhole, T, A>(dw + at, product, count);
      }
      store_some<kWhole, A, A>(squares + o, sum, count);
    }
  });
}

// All taps of some input maps in one pass: as many numbers at a time as have their sums in the first-level cache, and
// three of their taps. Rows are read from end to end, as prefetching likes it; more of them, which often lie a power of
// two apart, would drive each other out of the caches.
template <bool Add, typename T, typename A>
void square_and_scale(const ModulateShape& m, const T* w, const A* factors, int64_t first, int64_t maps, A* squares,
                      T* dw) {
  constexpr int64_t kRun = 2048;
  const int64_t step = m.in * m.out;
  if (m.taps == 0) std::fill(squares, squares + maps * m.out, A(0));
  for (int64_t j = 0; j < maps * m.out; j += kRun) {
    const int64_t numbers = std::min(kRun, maps * m.out - j);
    const auto run = [&](auto taps, int64_t t) {
      const int64_t at = t * step + first * m.out + j;
      t == 0 ? run_of_taps<taps.value, true, Add>(w + at, factors + j, step, numbers, squares + j, dw + at)
             : run_of_taps<taps.value, false, Add>(w + at, factors + j, step, numbers, squares + j, dw + at);
    };
    int64_t t = 0;
    for (; t + 3 <= m.taps; t += 3) run(std::integral_constant<int, 3>(), t);
    for (; t < m.taps; ++t) run(std::integral_constant<int, 1>(), t);
  }
}

// g [N, out] as [out, N], rows of whole registers: sums over the output maps add registers of samples. Within a
// register they would take longer than all the rest.
template <typename A>
class BySample {
 public:
  BySample(const ModulateShape& m, const A* g)
      : row((m.samples + Lanes<A>::kSize - 1) / Lanes<A>::kSize * Lanes<A>::kSize), numbers_(m.out * row) {
    for (int64_t o = 0; o < m.out; ++o) {
      for (int64_t n = 0; n < m.samples; ++n) numbers_.data()[o * row + n] = g[n * m.out + o];
    }
  }

  // ds[n, i] = s[n, i] * the sum over o of g[n, o] * sums[i, o], for some input maps, or added to it.
  template <bool Add, typename T>
  void sum_maps(const ModulateShape& m, const A* sums, const T* s, int64_t first, int64_t maps, A* scratch, T* ds) {
    multiply(sums, m.out, 1, numbers_.data(), scratch, maps, m.out, row);
    for (int64_t n = 0; n < m.samples; ++n) {
      for (int64_t i = 0; i < maps; ++i) {
        T& to = ds[n * m.in + first + i];
        const A product = widen(s[n * m.in + first + i]) * scratch[i * row + n];
        to = narrow<T, A>(Add ? widen(to) + product : product);
      }
    }
  }

  const int64_t row;

 private:
  Scratch<A> numbers_;
};

// Calls f(k, first, maps) for the pieces of the input maps; `work`: products per output map and input map.
template <typename F>
void for_pieces(const ModulateShape& m, int64_t work, const Parallel& parallel, const F& f) {
  const int64_t piece = maps_of_piece(m), pieces = (m.in + piece - 1) / piece;
  parallel(pieces, piece * work * m.out / 4 + 1, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) f(k, k * piece, std::min(piece, m.in - k * piece));
  });
}

template <bool Add, typename T>
void demodulation_grad(const ModulateShape& m, const T* w, const T* s, const wide_t<T>* d, const wide_t<T>* dd, T* dw,
                       T* ds, const Parallel& parallel) {
  using A = wide_t<T>;
  // d = q^(-1/2), q = sum of (w * s)^2 + eps: what every square is multiplied by in the gradient, times 2.
  Scratch<A> twice_dq(m.samples * m.out), styles(m.samples * m.in);
  A* __restrict dq = twice_dq.data();
#pragma GCC ivdep
  for (int64_t j = 0; j < m.samples * m.out; ++j) dq[j] = -d[j] * d[j] * d[j] * dd[j];
  BySample<A> by_sample(m, dq);
  multiply_styles(m, s, s, styles.data());
  for_pieces(m, 2 * m.taps + 2 * m.samples, parallel, [&](int64_t, int64_t first, int64_t maps) {
    Room<A> factors(maps * m.out), squares(maps * m.out), of_styles(maps * by_sample.row);
    multiply(styles.data() + first, 1, m.in, twice_dq.data(), factors.data(), maps, m.samples, m.out);
    square_and_scale<Add>(m, w, factors.data(), first, maps, squares.data(), dw);
    by_sample.template sum_maps<Add>(m, squares.data(), s, first, maps, of_styles.data(), ds);
  });
}

}  // namespace

template <typename T>
void energy_cpu(const ModulateShape& m, const T* w1, const T* w2, const T* s1, const T* s2, wide_t<T> start,
                wide_t<T>* e, const Parallel& parallel) {
  using A = wide_t<T>;
  // The sum over taps does not depend on the sample: sums of some input maps, then their products with all styles.
  const int64_t piece = maps_of_piece(m), pieces = (m.in + piece - 1) / piece, size = m.samples * m.out;
  Room<A> partial(pieces * size), styles(m.samples * m.in);
  multiply_styles(m, s1, s2, styles.data());
  for_pieces(m, m.taps + m.samples, parallel, [&](int64_t k, int64_t first, int64_t maps) {
    Room<A> sums(maps * m.out);
    sum_taps(m, w1, w2, first, maps, sums.data());
    multiply(styles.data() + first, m.in, 1, sums.data(), partial.data() + k * size, m.samples, maps, m.out);
  });
  add_pieces(partial.data(), pieces, size, start, e);
}

template <typename T>
void energy_weights_cpu(const ModulateShape& m, const wide_t<T>* g, const T* w, const T* s1, const T* s2, T* dw,
                        const Parallel& parallel) {
  using A = wide_t<T>;
  Room<A> styles(m.samples * m.in);
  multiply_styles(m, s1, s2, styles.data());
  for_pieces(m, m.taps + m.samples, parallel, [&](int64_t, int64_t first, int64_t maps) {
    Room<A> factors(maps * m.out);
    multiply(styles.data() + first, 1, m.in, g, factors.data(), maps, m.samples, m.out);
    for (int64_t t = 0; t < m.taps; ++t) {  // the maps of a piece lie side by side
      const T* __restrict from = w + (t * m.in + first) * m.out;
      T* __restrict to = dw + (t * m.in + first) * m.out;
      const A* __restrict factor = factors.data();
#pragma GCC ivdep
      for (int64_t j = 0; j < maps * m.out; ++j) to[j] = narrow<T, A>(widen(from[j]) * factor[j]);
    }
  });
}

template <typename T>
void energy_styles_cpu(const ModulateShape& m, const wide_t<T>* g, const T* w1, const T* w2, const T* s, T* ds,
                       const Parallel& parallel) {
  using A = wide_t<T>;
  BySample<A> by_sample(m, g);
  for_pieces(m, m.taps + m.samples, parallel, [&](int64_t, int64_t first, int64_t maps) {
    Room<A> sums(maps * m.out), of_styles(maps * by_sample.row);
    sum_taps(m, w1, w2, first, maps, sums.data());
    by_sample.template sum_maps<false>(m, sums.data(), s, first, maps, of_styles.data(), ds);
  });
}

template <typename T>
void demodulation_cpu(const ModulateShape& m, double eps, const T* w, const T* s, wide_t<T>* d,
                      const Parallel& parallel) {
  using A = wide_t<T>;
  energy_cpu(m, w, w, s, s, A(eps), d, parallel);
  for (int64_t j = 0; j < m.samples * m.out; ++j) d[j] = A(1) / std::sqrt(d[j]);
}

template <typename T>
void demodulation_grad_cpu(const ModulateShape& m, const T* w, const T* s, const wide_t<T>* d, const wide_t<T>* dd,
                           bool add, T* dw, T* ds, const Parallel& parallel) {
  add ? demodulation_grad<true>(m, w, s, d, dd, dw, ds, parallel)
      : demodulation_grad<false>(m, w, s, d, dd, dw, ds, parallel);
}

#define OPS_INSTANTIATE(T)                                                                                          \
  template void energy_cpu<T>(const ModulateShape&, const T*, const T*, const T*, const T*, wide_t<T>, wide_t<T>*,  \
                              const Parallel&);                                                                     \
  template void energy_weights_cpu<T>(const ModulateShape&, const wide_t<T>*, const T*, const T*, const T*, T*,     \
                                      const Parallel&);                                                             \
  template void energy_styles_cpu<T>(const ModulateShape&, const wide_t<T>*, const T*, const T*, const T*, T*,      \
                                     const Parallel&);                                                              \
  template void demodulation_cpu<T>(const ModulateShape&, double, const T*, const T*, wide_t<T>*, const Parallel&); \
  template void demodulation_grad_cpu<T>(const ModulateShape&, const T*, const T*, const wide_t<T>*,                \
                                         const wide_t<T>*, bool, T*, T*, const Parallel&);
OPS_INSTANTIATE(float)
OPS_INSTANTIATE(double)
OPS_INSTANTIATE(Half)
OPS_INSTANTIATE(BFloat16)

}  // namespace ops
