// What ops of weights [kh, kw, in, out] and styles [N, in] ask of them.
#pragma once

#include "tf_common.h"

namespace ops_tf {

// Sizes of w and s, or false, with the error set, where they do not fit each other.
inline bool weights_and_styles(OpKernelContext* ctx, const Tensor& w, const Tensor& s, bool grouped,
                               ops::ModulateShape* m) {
  const bool good = w.dims() == 4 && s.dims() == 2 && s.dim_size(1) == w.dim_size(2);
  if (good) {
    *m = {s.dim_size(0), w.dim_size(0) * w.dim_size(1), w.dim_size(2), w.dim_size(3), grouped};
  } else {
    ctx->SetStatus(tensorflow::errors::InvalidArgument("s: found ", s.shape().DebugString(), " for weights ",
                                                       w.shape().DebugString(), ", expected [N, in]"));
  }
  return good;
}

}  // namespace ops_tf
