// Affine warp on CPUs. Image by image: the part of the extended image that the warp looks at is laid out once; fine
// samples are sums over windows of it; bands of them are filtered down to result rows. The adjoint runs backwards.
#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "cpu.h"
#include "warp.h"

namespace ops {
namespace {

constexpr int64_t kBandBytes = 256 << 10;

template <typename T>
struct Window {
  typedef T type __attribute__((vector_size(kWarpWindow * sizeof(T))));
};
template <typename T>
using window_t = typename Window<T>::type;

template <typename T>
inline window_t<T> load(const T* p) {
  window_t<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <typename T>
inline void store(T* p, window_t<T> v) {
  std::memcpy(p, &v, sizeof v);
}

template <typename T>
inline T total(window_t<T> v) {
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

// Where a sample at position m of the fine grid lies along an axis, and its weights; false where it sees nothing.
template <typename T>
inline bool locate(const WarpAxis& axis, const WarpWeights<T>& table, double m, int* pixel, window_t<T>* weights) {
  const int lo = 2 * axis.lo(), hi = 2 * axis.hi() + 1;
  if (!(m > lo - 1 && m < hi + 1)) return false;
  const int first = static_cast<int>(std::floor(m));
  const T f = static_cast<T>(m - first);
  const int parity = first & 1;
  *pixel = (first - parity) / 2 - kWarpBefore;
  const T near = first < lo ? T(0) : 1 - f, far = first + 1 > hi ? T(0) : f;
  *weights = near * load(table.first[parity]) + far * load(table.second[parity]);
  return true;
}

// The extended image of all channels, as far as the warp looks at it.
template <typename T>
struct Canvas {
  WarpAxis y, x;
  int top, left, rows, columns;
  std::vector<T> pixels;

  // theta maps centred pixels of the result to centred pixels of the image.
  Canvas(const WarpShape& s, const T* theta) : y{s.h}, x{s.w} {
    extent(theta[3], theta[4], theta[5], s, y, &top, &rows);
    extent(theta[0], theta[1], theta[2], s, x, &left, &columns);
    pixels.assign(static_cast<size_t>(s.channels) * rows * columns, T(0));
  }

  static void extent(double by_x, double by_y, double shift, const WarpShape& s, const WarpAxis& axis, int* first,
                     int* count) {
    const double reach = std::abs(by_x) * (s.w + kWarpBorder + 1) / 2 + std::abs(by_y) * (s.h + kWarpBorder + 1) / 2;
    const double centre = shift + (axis.size - 1) * 0.5;
    // Clamped before the conversion: the numbers may be anything.
    const double low = std::clamp(centre - reach - 1, axis.lo() - 2.0, axis.hi() + 2.0);
    const double high = std::clamp(centre + reach + 1, axis.lo() - 2.0, axis.hi() + 2.0);
    *first = static_cast<int>(std::floor(low)) - kWarpBefore - 1;
    *count = static_cast<int>(std::ceil(high)) - *first + kWarpWindow + 1;
  }

  T* plane(int64_t c) { return pixels.data() + c * rows * columns; }

  template <typename F>
  void for_each_row(int64_t channels, F&& f) {
    for (int64_t c = 0; c < channels; ++c) {
      for (int r = std::max(y.lo() - top, 0); r < std::min(y.hi() + 1 - top, rows); ++r) {
        f(c * y.size * x.size + y.source(r + top) * x.size, plane(c) + r * columns);
      }
    }
  }

  void fill(int64_t channels, const T* image) {
    const int begin = std::max(x.lo(), left), end = std::min(x.hi() + 1, left + columns);
    for_each_row(channels, [&](int64_t from, T* to) {
      for (int i = begin; i < end; ++i) to[i - left] = image[from + x.source(i)];
    });
  }

  void fold(int64_t channels, T* image) {
    const int begin = std::max(x.lo(), left), end = std::min(x.hi() + 1, left + columns);
    for_each_row(channels, [&](int64_t to, const T* from) {
      for (int i = begin; i < end; ++i) image[to + x.source(i)] += from[i - left];
    });
  }
};

// Fine rows [-5, ...) of a band: 2 * rows + 10 of them, of 2 * w + 10 samples each, for every channel.
template <typename T>
struct Band {
  int rows, fine_rows, fine_columns;
  std::vector<T> samples, row, even, odd;

  Band(const WarpShape& s)
      : rows(0), fine_columns(2 * s.w + 2 * kWarpBorder), row(fine_columns), even(fine_columns / 2), odd(fine_columns / 2) {
    const int64_t bytes = s.channels * fine_columns * sizeof(T);
    rows = static_cast<int>(std::clamp<int64_t>(kBandBytes / std::max<int64_t>(2 * bytes, 1), 16, s.h));
    rows = std::min(rows, s.h);
    fine_rows = 2 * rows + 2 * kWarpBorder;
    samples.resize(static_cast<size_t>(s.channels) * fine_rows * fine_columns);
  }

  T* line(int64_t c, int r) { return samples.data() + (c * fine_rows + r) * fine_columns; }
};

// Calls f(fine row, fine column, offset of the window in a plane of the canvas, weights) for samples that see something.
template <typename T, typename F>
void for_each_sample(const WarpShape& s, const T* theta, const WarpWeights<T>& table, const Canvas<T>& canvas, int row,
                     int fine_rows, int fine_columns, F&& f) {
  for (int r = 0; r < fine_rows; ++r) {
    // Fine sample n belongs to pixel n / 2, in the result and in the image.
    const double oy = 0.5 * (2 * row - kWarpBorder + r) - 0.5 * (s.h - 1);
    for (int i = 0; i < fine_columns; ++i) {
      const double ox = 0.5 * (i - kWarpBorder) - 0.5 * (s.w - 1);
      const double u = theta[0] * ox + theta[1] * oy + theta[2] + 0.5 * (s.w - 1);
      const double v = theta[3] * ox + theta[4] * oy + theta[5] + 0.5 * (s.h - 1);
      int px, py;
      window_t<T> wx, wy;
      if (!locate(canvas.x, table, 2 * u, &px, &wx) || !locate(canvas.y, table, 2 * v, &py, &wy)) continue;
      f(r, i, static_cast<int64_t>(py - canvas.top) * canvas.columns + (px - canvas.left), wx, wy);
    }
  }
}

template <typename T>
void warp_forward(const WarpShape& s, const float* h, const WarpWeights<T>& table, const T* x, const T* theta, T* y) {
  Canvas<T> canvas(s, theta);
  canvas.fill(s.channels, x);
  Band<T> band(s);
  T g[kWarpTaps];
  for (int k = 0; k < kWarpTaps; ++k) g[k] = T(h[k]) / std::sqrt(T(2));
  for (int row = 0; row < s.h; row += band.rows) {
    const int rows = std::min(band.rows, s.h - row), fine_rows = 2 * rows + 2 * kWarpBorder;
    std::fill(band.samples.begin(), band.samples.end(), T(0));
    for_each_sample(s, theta, table, canvas, row, fine_rows, band.fine_columns,
                    [&](int r, int i, int64_t offset, const window_t<T>& wx, const window_t<T>& wy) {
                      for (int64_t c = 0; c < s.channels; ++c) {
                        const T* p = canvas.plane(c) + offset;
                        window_t<T> sum = wy[0] * load(p);
                        for (int j = 1; j < kWarpWindow - 1; ++j) sum += wy[j] * load(p + j * canvas.columns);
                        band.line(c, r)[i] = total<T>(sum * wx);
                      }
                    });
    for (int64_t c = 0; c < s.channels; ++c) {
      for (int r = 0; r < rows; ++r) {
        std::fill(band.row.begin(), band.row.end(), T(0));
        for (int k = 0; k < kWarpTaps; ++k) {
          const T* line = band.line(c, 2 * r + k);
          for (int i = 0; i < band.fine_columns; ++i) band.row[i] += g[k] * line[i];
        }
        for (int i = 0; i < band.fine_columns / 2; ++i) band.even[i] = band.row[2 * i], band.odd[i] = band.row[2 * i + 1];
        T* out = y + (c * s.h + row + r) * s.w;
        std::fill(out, out + s.w, T(0));
        for (int k = 0; k < kWarpTaps; k += 2) {
          const T *even = band.even.data() + k / 2, *odd = band.odd.data() + k / 2;
          for (int o = 0; o < s.w; ++o) out[o] += g[k] * even[o] + g[k + 1] * odd[o];
        }
      }
    }
  }
}

template <typename T>
void warp_backward(const WarpShape& s, const float* h, const WarpWeights<T>& table, const T* dy, const T* theta, T* dx) {
  Canvas<T> canvas(s, theta);
  Band<T> band(s);
  T g[kWarpTaps];
  for (int k = 0; k < kWarpTaps; ++k) g[k] = T(h[k]) / std::sqrt(T(2));
  for (int row = 0; row < s.h; row += band.rows) {
    const int rows = std::min(band.rows, s.h - row), fine_rows = 2 * rows + 2 * kWarpBorder;
    std::fill(band.samples.begin(), band.samples.end(), T(0));
    for (int64_t c = 0; c < s.channels; ++c) {
      for (int r = 0; r < rows; ++r) {
        std::fill(band.even.begin(), band.even.end(), T(0));
        std::fill(band.odd.begin(), band.odd.end(), T(0));
        const T* out = dy + (c * s.h + row + r) * s.w;
        for (int k = 0; k < kWarpTaps; k += 2) {
          T *even = band.even.data() + k / 2, *odd = band.odd.data() + k / 2;
          for (int o = 0; o < s.w; ++o) even[o] += g[k] * out[o], odd[o] += g[k + 1] * out[o];
        }
        for (int i = 0; i < band.fine_columns / 2; ++i) band.row[2 * i] = band.even[i], band.row[2 * i + 1] = band.odd[i];
        for (int k = 0; k < kWarpTaps; ++k) {
          T* line = band.line(c, 2 * r + k);
          for (int i = 0; i < band.fine_columns; ++i) line[i] += g[k] * band.row[i];
        }
      }
    }
    for_each_sample(s, theta, table, canvas, row, fine_rows, band.fine_columns,
                    [&](int r, int i, int64_t offset, const window_t<T>& wx, const window_t<T>& wy) {
                      for (int64_t c = 0; c < s.channels; ++c) {
                        T* p = canvas.plane(c) + offset;
                        const window_t<T> part = band.line(c, r)[i] * wx;
                        for (int j = 0; j < kWarpWindow - 1; ++j) {
                          T* q = p + j * canvas.columns;
                          store<T>(q, load(q) + wy[j] * part);
                        }
                      }
                    });
  }
  std::fill(dx, dx + s.channels * s.h * s.w, T(0));
  canvas.fold(s.channels, dx);
}

template <typename T>
bool is_identity(const T* theta) {
  return theta[0] == 1 && theta[1] == 0 && theta[2] == 0 && theta[3] == 0 && theta[4] == 1 && theta[5] == 0;
}

template <typename T>
bool is_finite(const T* theta) {
  return std::all_of(theta, theta + 6, [](T v) { return std::isfinite(v); });
}

}  // namespace

template <typename T>
void warp_cpu(const WarpShape& s, const float* h, bool adjoint, const T* x, const T* theta, T* y,
              const Parallel& parallel) {
  const WarpWeights<T> table(h);
  const int64_t size = s.channels * s.h * s.w;
  parallel(s.samples, size * 100, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      const T *from = x + n * size, *map = theta + n * 6;
      T* to = y + n * size;
      if (is_identity(map)) {
        std::copy(from, from + size, to);
      } else if (!is_finite(map)) {
        std::fill(to, to + size, std::numeric_limits<T>::quiet_NaN());
      } else if (adjoint) {
        warp_backward(s, h, table, from, map, to);
      } else {
        warp_forward(s, h, table, from, map, to);
      }
    }
  });
}

template void warp_cpu(const WarpShape&, const float*, bool, const float*, const float*, float*, const Parallel&);
template void warp_cpu(const WarpShape&, const float*, bool, const double*, const double*, double*, const Parallel&);

}  // namespace ops
