// What ops of weights [kh, kw, in, out] and styles [N, in] ask of them.
#pragma once

#include "tf_common.h"

namespace ops_tf {

// The shape [N, out] of what sums over rows, columns and input maps leave, of w, input 0, and styles, input Style.
template <int Style>
tensorflow::Status sums_shape(InferenceContext* c) {
  tensorflow::shape_inference::ShapeHandle w, s;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 4, &w));
  TF_RETURN_IF_ERROR(c->WithRank(c->input(Style), 2, &s));
  c->set_output(0, c->Matrix(c->Dim(s, 0), c->Dim(w, 3)));
  return tensorflow::OkStatus();
}

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
