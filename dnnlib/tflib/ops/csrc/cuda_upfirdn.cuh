// What the files of upfirdn on GPUs share.
#pragma once

#include "cuda_common.cuh"
#include "resampling.h"

namespace ops {

// Separable filters, as arguments of kernels.
struct Axes {
  float y[kMaxTaps], x[kMaxTaps];
};

struct UpfirdnShape {
  int64_t outer, inner;
  ResamplingAxis y, x;
};

// Separable filters of any length and factors of up to 4, both passes in one kernel (upfirdn_long.cu). False where it
// is not made for the case.
template <typename T>
bool launch_long(const T* x, T* y, const UpfirdnShape& s, const Axes& filter, cudaStream_t stream);

}  // namespace ops
