// Depthwise convolution of images [samples, in_h, in_w, channels] with one filter [kernel_h, kernel_w] per channel.
#pragma once

#include <cstdint>

namespace ops {

struct DepthwiseShape {
  int64_t samples = 0, channels = 0;
  int in_h = 0, in_w = 0, out_h = 0, out_w = 0, kernel_h = 0, kernel_w = 0, stride = 1;
  int pad_y = 0, pad_x = 0;  // zeros before the first row and column
  double low = 0, high = 0;  // results are cut to this range; a NaN stays one
};

// TensorFlow's padding SAME: as many results as strides begin within the image; the odd zero stands behind it.
inline int same_size(int in, int stride) { return (in + stride - 1) / stride; }
inline int same_padding(int in, int kernel, int stride) {
  const int64_t all = static_cast<int64_t>(same_size(in, stride) - 1) * stride + kernel - in;
  return all > 0 ? static_cast<int>(all / 2) : 0;
}

}  // namespace ops
