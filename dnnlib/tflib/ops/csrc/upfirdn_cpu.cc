// upfirdn on CPUs. An output row is made in tiles that stay in the first-level cache: the rows of the image that meet
// the filter are combined into one row of the tile (zeros where the image ends), which is then filtered along x.
#include <algorithm>
#include <cstring>

#include "combine.h"
#include "cpu.h"
#include "few_channels.h"
#include "four_taps.h"
#include "stream.h"

namespace ops {
namespace {

constexpr int kTileBytes = 16 << 10;

// Combines image rows into `row`, which covers pixels [begin, end) and is zero outside the image.
template <typename T, typename A>
void filter_columns(const ResamplingShape& s, const T* image, int o, int begin, int end, const A* g, A* row) {
  const int64_t c = s.inner, stride = s.x.in * c;
  const int from = std::max(begin, 0), to = std::min(end, s.x.in);
  int tap, sample;
  first_tap(s.y, o, &tap, &sample);
  const T* rows[kMaxTaps];
  A weights[kMaxTaps];
  int count = 0;
  for (; tap < s.y.taps; tap += s.y.up, ++sample) {
    if (sample < 0 || sample >= s.y.in) continue;
    rows[count] = image + sample * stride + from * c;
    weights[count++] = g[tap];
  }
  if (count == 0 || from >= to) {
    std::fill(row, row + (end - begin) * c, A(0));
    return;
  }
  std::fill(row, row + (from - begin) * c, A(0));
  combine(row + (from - begin) * c, rows, weights, count, (to - from) * c);
  std::fill(row + (to - begin) * c, row + (end - begin) * c, A(0));
}

// Pixels of `inner` numbers each: the tile is contiguous for factor 1, else pixel by pixel.
template <typename T, typename A>
void filter_row_wide(const ResamplingShape& s, const A* row, int begin, int o_begin, int o_end, const A* g, T* out) {
  const int64_t c = s.inner;
  const A* rows[kMaxTaps];
  A weights[kMaxTaps];
  if (s.x.up == 1 && s.x.down == 1) {
    const A* first = row + (o_begin - s.x.pad - begin) * c;
    for (int k = 0; k < s.x.taps; ++k) rows[k] = first + k * c;
    combine(out, rows, g, s.x.taps, (o_end - o_begin) * c);
    return;
  }
  // Outputs that lie `up` apart meet the same taps, `down` samples further on.
  for (int p = 0; p < s.x.up && o_begin + p < o_end; ++p) {
    const int outputs = (o_end - o_begin - p + s.x.up - 1) / s.x.up;
    int tap, sample, count = 0;
    first_tap(s.x, o_begin + p, &tap, &sample);
    for (; tap < s.x.taps; tap += s.x.up, ++sample, ++count) {
      rows[count] = row + (sample - begin) * c;
      weights[count] = g[tap];
    }
    T* to = out + p * c;
    const int64_t to_step = s.x.up * c, from_step = s.x.down * c;
    switch (count) {
      case 1: combine_pixels<1>(to, to_step, rows, from_step, weights, outputs, c); break;
      case 2: combine_pixels<2>(to, to_step, rows, from_step, weights, outputs, c); break;
      case 3: combine_pixels<3>(to, to_step, rows, from_step, weights, outputs, c); break;
      case 4: combine_pixels<4>(to, to_step, rows, from_step, weights, outputs, c); break;
      default:
        for (int j = 0; j < outputs; ++j, to += to_step) {
          combine_any(to, rows, weights, count, c);  // zeros where no tap meets a sample
          for (int k = 0; k < count; ++k) rows[k] += from_step;
        }
    }
  }
}

// One pixel of C numbers. Three are moved as four, a single instruction: what is written beyond the pixel, the next
// one overwrites; the last pixel of a row must be moved exactly.
template <int C, typename T>
inline void move_pixel(T* dst, const T* src) {
  std::memcpy(dst, src, (C == 3 ? 4 : C) * sizeof(T));
}

// Two phases of a row: dst[2 * i] = even[i], dst[2 * i + 1] = odd[i], in pixels.
template <int C, typename T>
void interleave(T* __restrict dst, const T* __restrict even, const T* __restrict odd, int count) {
  if constexpr (C == 1) {
#pragma GCC ivdep
    for (int i = 0; i < count; ++i) {
      dst[2 * i] = even[i];
      dst[2 * i + 1] = odd[i];
    }
    return;
  }
  int i = 0;
  for (; i + 1 < count; ++i) {
    move_pixel<C>(dst + 2 * i * C, even + i * C);
    move_pixel<C>(dst + (2 * i + 1) * C, odd + i * C);
  }
  for (int c = 0; i < count && c < C; ++c) dst[2 * i * C + c] = even[i * C + c], dst[(2 * i + 1) * C + c] = odd[i * C + c];
}

template <int C, typename T>
void scatter_pixels(T* __restrict dst, const T* __restrict src, int count, int step) {
  for (int i = 0; i < count; ++i) {
    for (int c = 0; c < C; ++c) dst[i * step * C + c] = src[i * C + c];
  }
}

// dst[i] = src[i * step], in pixels; both have room for one number more.
template <int C, typename A>
void gather_pixels(A* __restrict dst, const A* __restrict src, int count, int step) {
  if constexpr (C == 1) {
#pragma GCC ivdep
    for (int i = 0; i < count; ++i) dst[i] = src[i * step];
  } else {
    for (int i = 0; i < count; ++i) move_pixel<C>(dst + i * C, src + i * step * C);
  }
}

// Few channels (C of them): filter whole phases of the row at once, where one factor is 1.
template <int C, typename T, typename A>
void filter_row_narrow(const ResamplingShape& s, const A* row, int begin, int o_begin, int o_end, const A* g, T* out,
                       A* scratch, T* phase_out) {
  const int up = s.x.up, down = s.x.down;
  const A* rows[kMaxTaps];
  A weights[kMaxTaps];
  if (up == 1) {
    // Output j reads pixels j * down + k: phase k % down, position j + k / down.
    const int outputs = o_end - o_begin;
    const A* first = row + (o_begin * down - s.x.pad - begin) * C;
    const int length = outputs + (s.x.taps - 1) / down;
    for (int p = 0; p < std::min(down, s.x.taps); ++p) {
      // The last positions of a phase may not exist; no tap reads them.
      const int exist = ((outputs - 1) * down + s.x.taps - 1 - p) / down + 1;
      gather_pixels<C>(scratch + p * length * C, first + p * C, std::min(exist, length), down);
    }
    for (int k = 0; k < s.x.taps; ++k) rows[k] = scratch + ((k % down) * length + k / down) * C;
    combine(out, rows, g, s.x.taps, static_cast<int64_t>(outputs) * C);
    return;
  }
  // down == 1: outputs of one phase read neighbouring pixels with the same taps.
  const int whole = (o_end - o_begin) / up;  // outputs of every phase
  const T* phases[kMaxTaps];
  for (int p = 0; p < up && o_begin + p < o_end; ++p) {
    const int outputs = (o_end - o_begin - p + up - 1) / up;
    int tap, sample, count = 0;
    first_tap(s.x, o_begin + p, &tap, &sample);
    for (; tap < s.x.taps; tap += up, ++sample, ++count) {
      rows[count] = row + (sample - begin) * C;
      weights[count] = g[tap];
    }
    T* to = phase_out + (up == 2 ? p * (whole + 1) * C : 0);
    if (count) {
      combine(to, rows, weights, count, static_cast<int64_t>(outputs) * C);
    } else {
      std::fill(to, to + outputs * C, narrow<T, A>(A(0)));
    }
    phases[p % 2] = to;
    if (up != 2) scatter_pixels<C>(out + p * C, to, outputs, up);
  }
  if (up == 2) {
    interleave<C>(out, phases[0], phases[1], whole);
    if (o_begin + 2 * whole < o_end) std::copy(phases[0] + whole * C, phases[0] + (whole + 1) * C, out + 2 * whole * C);
  }
}

template <typename T, typename A>
void filter_row(const ResamplingShape& s, const A* row, int begin, int o_begin, int o_end, const A* g, T* out,
                A* scratch, T* phase_out) {
  const bool factor = s.x.up > 1 || s.x.down > 1;
  if (factor && s.inner <= 4 && (s.x.up == 1 || s.x.down == 1)) {
    switch (s.inner) {
      case 1: return filter_row_narrow<1>(s, row, begin, o_begin, o_end, g, out, scratch, phase_out);
      case 2: return filter_row_narrow<2>(s, row, begin, o_begin, o_end, g, out, scratch, phase_out);
      case 3: return filter_row_narrow<3>(s, row, begin, o_begin, o_end, g, out, scratch, phase_out);
      default: return filter_row_narrow<4>(s, row, begin, o_begin, o_end, g, out, scratch, phase_out);
    }
  }
  filter_row_wide(s, row, begin, o_begin, o_end, g, out);
}

// Pixels that outputs [o_begin, o_end) of an axis may read.
void input_range(const ResamplingAxis& a, int o_begin, int o_end, int* begin, int* end) {
  int tap;
  first_tap(a, o_begin, &tap, begin);
  *end = floor_div((o_end - 1) * a.down - a.pad + a.taps - 1, a.up) + 1;
  *end = std::max(*end, *begin);
}

}  // namespace

template <typename T>
void upfirdn_cpu(const ResamplingShape& s, const T* x, T* y, const Parallel& parallel) {
  if (upfirdn_four_taps(s, x, y, parallel) || upfirdn_few_channels(s, x, y, parallel)) return;
  using A = wide_t<T>;
  const int64_t c = s.inner;
  const int taps_y = s.y.taps, taps_x = s.x.taps;
  // Filters in the type of the sums; a filter that is not separable is a list of rows.
  std::vector<A> gy(s.separable ? s.gy : s.g, s.separable ? s.gy + taps_y : s.g + taps_y * taps_x);
  std::vector<A> gx(s.separable ? s.gx : s.g, s.separable ? s.gx + taps_x : s.g + 1);

  const int64_t pixels = std::max<int64_t>(kTileBytes / (c * sizeof(A)), 1);
  const int tile = static_cast<int>(std::clamp<int64_t>(pixels * s.x.up / s.x.down, 8, std::max(s.x.out, 8)));
  int begin0, end0;
  input_range(s.x, 0, tile, &begin0, &end0);
  const int64_t row_size = (end0 - begin0 + 2) * c + 32;  // some loops read a little beyond what counts

  const bool stream = streams(s.outer * s.y.out * s.x.out * c * static_cast<int64_t>(sizeof(T)));
  const int64_t row_cycles = s.x.out * c * (s.separable ? taps_y + taps_x : taps_y * taps_x) / 8 + 100;
  parallel(s.outer * s.y.out, row_cycles, [&](int64_t unit_begin, int64_t unit_end) {
    std::vector<A> row(row_size), scratch(row_size + (s.x.down + taps_x) * c), sum(s.separable ? 0 : tile * c),
        part(s.separable ? 0 : tile * c);
    std::vector<T> phase_out((tile + 4) * std::min<int64_t>(c, 4)), staged(stream ? tile * c : 0);
    for (int64_t unit = unit_begin; unit < unit_end; ++unit) {
      const int o = static_cast<int>(unit % s.y.out);
      const T* image = x + unit / s.y.out * s.y.in * s.x.in * c;
      T* out = y + unit * s.x.out * c;
      for (int o_begin = 0; o_begin < s.x.out; o_begin += tile) {
        const int o_end = std::min(o_begin + tile, s.x.out);
        int begin, end;
        input_range(s.x, o_begin, o_end, &begin, &end);
        if (s.separable) {
          filter_columns(s, image, o, begin, end, gy.data(), row.data());
          T* to = stream ? staged.data() : out + o_begin * c;
          filter_row(s, row.data(), begin, o_begin, o_end, gx.data(), to, scratch.data(), phase_out.data());
          if (stream) stream_copy(out + o_begin * c, to, (o_end - o_begin) * c * sizeof(T));
          continue;
        }
        const int64_t size = (o_end - o_begin) * c;
        std::fill(sum.begin(), sum.begin() + size, A(0));
        int tap, sample;
        first_tap(s.y, o, &tap, &sample);
        for (; tap < taps_y; tap += s.y.up, ++sample) {
          if (sample < 0 || sample >= s.y.in) continue;
          const T* line = image + static_cast<int64_t>(sample) * s.x.in * c;
          const int from = std::max(begin, 0), to = std::max(std::min(end, s.x.in), from);
          std::fill(row.begin(), row.begin() + (end - begin) * c, A(0));
          for (int64_t i = from * c; i < to * c; ++i) row[i - begin * c] = widen(line[i]);
          filter_row_wide(s, row.data(), begin, o_begin, o_end, gy.data() + tap * taps_x, part.data());
          for (int64_t i = 0; i < size; ++i) sum[i] += part[i];
        }
        for (int64_t i = 0; i < size; ++i) out[o_begin * c + i] = narrow<T, A>(sum[i]);
      }
    }
    if (stream) stream_end();
  });
}

#define OPS_INSTANTIATE(T) template void upfirdn_cpu<T>(const ResamplingShape&, const T*, T*, const Parallel&);
OPS_INSTANTIATE(float)
OPS_INSTANTIATE(double)
OPS_INSTANTIATE(Half)
OPS_INSTANTIATE(BFloat16)

}  // namespace ops
