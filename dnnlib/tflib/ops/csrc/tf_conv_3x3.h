// TensorFlow ops DnnlibConv3x3 (and its adjoint) and DnnlibConv3x3FilterGrad, channels last, for CPUs.
#pragma once

#include <algorithm>
#include <new>

#include "tf_common.h"

namespace ops_tf {

// Rows or columns of results of a convolution of so many pixels, or of its adjoint of so many results.
inline int64_t conv_3x3_size(int64_t size, int64_t stride, bool adjoint) {
  if (stride == 1) return size;
  return adjoint ? 2 * size + 1 : (size - 1) / 2;
}

}  // namespace ops_tf

REGISTER_OP("DnnlibConv3x3")
    .Input("x: T")
    .Input("w: T")
    .Output("y: T")
    .Attr("T: {float, bfloat16}")
    .Attr("stride: int")
    .Attr("tile: int = 2")
    .Attr("adjoint: bool")
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) -> tensorflow::Status {
      tensorflow::shape_inference::ShapeHandle x, w;
      int64_t stride;
      bool adjoint;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 4, &x));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 4, &w));
      TF_RETURN_IF_ERROR(c->GetAttr("stride", &stride));
      TF_RETURN_IF_ERROR(c->GetAttr("adjoint", &adjoint));
      if (stride != 1 && stride != 2) {
        return tensorflow::errors::InvalidArgument("stride: expected 1 or 2, found ", stride);
      }
      tensorflow::shape_inference::DimensionHandle same;
      TF_RETURN_IF_ERROR(c->WithValue(c->Dim(w, 0), 3, &same));
      TF_RETURN_IF_ERROR(c->WithValue(c->Dim(w, 1), 3, &same));
      TF_RETURN_IF_ERROR(c->Merge(c->Dim(x, 3), c->Dim(w, adjoint ? 3 : 2), &same));
      for (int axis = 1; axis < 3; ++axis) {
        const auto size = c->Dim(x, axis);
        const auto result = c->ValueKnown(size) ? c->MakeDim(ops_tf::conv_3x3_size(c->Value(size), stride, adjoint))
                                                : c->UnknownDim();
        TF_RETURN_IF_ERROR(c->ReplaceDim(x, axis, result, &x));
      }
      TF_RETURN_IF_ERROR(c->ReplaceDim(x, 3, c->Dim(w, adjoint ? 2 : 3), &x));
      c->set_output(0, x);
      return tensorflow::OkStatus();
    });

REGISTER_OP("DnnlibConv3x3FilterGrad")
    .Input("x: T")
    .Input("dy: T")
    .Output("dw: T")
    .Attr("T: {float, bfloat16}")
    .Attr("stride: int")
    .Attr("tile: int = 2")
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) -> tensorflow::Status {
      tensorflow::shape_inference::ShapeHandle x, dy;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 4, &x));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 4, &dy));
      tensorflow::shape_inference::DimensionHandle same;
      TF_RETURN_IF_ERROR(c->Merge(c->Dim(x, 0), c->Dim(dy, 0), &same));
      c->set_output(0, c->MakeShape({c->MakeDim(3), c->MakeDim(3), c->Dim(x, 3), c->Dim(dy, 3)}));
      return tensorflow::OkStatus();
    });

namespace ops_tf {

class Conv3x3Base : public OpKernel {
 public:
  explicit Conv3x3Base(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("stride", &stride_));
    OP_REQUIRES(ctx, stride_ == 1 || stride_ == 2,
                tensorflow::errors::InvalidArgument("stride: expected 1 or 2, found ", stride_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("tile", &tile_));
    OP_REQUIRES(ctx, tile_ == 2 || tile_ == 4,
                tensorflow::errors::InvalidArgument("tile: expected 2 or 4, found ", tile_));
  }

 protected:
  int64_t stride() const { return stride_; }
  ops::Conv3x3Shape shape(OpKernelContext* ctx) const {
    ops::Conv3x3Shape s;
    s.stride = stride_, s.tile = tile_, s.threads = threads_of(ctx);
    return s;
  }

  // Checks what goes in: x [N, H, W, in] of a convolution or its adjoint with so many maps; false after an error.
  bool good(OpKernelContext* ctx, const Tensor& x, int64_t in, int64_t out, bool adjoint) const {
    if (in % ops::kMapsStep || out % ops::kMapsStep) {
      ctx->SetStatus(tensorflow::errors::InvalidArgument("expected numbers of maps that are multiples of ",
                                                         ops::kMapsStep, ", found ", in, " and ", out));
    } else if (stride_ == 2 && !adjoint && (x.dim_size(1) % 2 == 0 || x.dim_size(2) % 2 == 0)) {
      ctx->SetStatus(tensorflow::errors::InvalidArgument("expected images of odd sides for stride 2, found ",
                                                         x.shape().DebugString()));
    }
    return ctx->status().ok();
  }

 private:
  int64_t stride_ = 1, tile_ = 2;
};

template <typename T>
class Conv3x3 : public Conv3x3Base {
 public:
  explicit Conv3x3(OpKernelConstruction* ctx) : Conv3x3Base(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("adjoint", &adjoint_));
  }

  void Compute(OpKernelContext* ctx) override {
    const Tensor &x = ctx->input(0), &w = ctx->input(1);
    const int in = adjoint_ ? 3 : 2, out = adjoint_ ? 2 : 3;
    OP_REQUIRES(ctx, x.dims() == 4 && w.dims() == 4 && w.dim_size(0) == 3 && w.dim_size(1) == 3 &&
                         w.dim_size(in) == x.dim_size(3),
                tensorflow::errors::InvalidArgument("expected images [N, H, W, in] and filters [3, 3, in, out], or for "
                                                    "the adjoint [3, 3, out, in], found ", x.shape().DebugString(),
                                                    " and ", w.shape().DebugString()));
    if (!good(ctx, x, w.dim_size(in), w.dim_size(out), adjoint_)) return;
    ops::Conv3x3Shape s = shape(ctx);
    s.samples = x.dim_size(0), s.in_h = x.dim_size(1), s.in_w = x.dim_size(2), s.in = x.dim_size(3);
    s.out_h = conv_3x3_size(s.in_h, stride(), adjoint_), s.out_w = conv_3x3_size(s.in_w, stride(), adjoint_);
    s.out = w.dim_size(out);
    Tensor* y = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, TensorShape({s.samples, s.out_h, s.out_w, s.out}), &y));
    if (y->NumElements() == 0) return;
    if (s.in == 0) {
      std::fill_n(y->flat<T>().data(), y->NumElements(), T(0));
      return;
    }
    on_cpu(ctx, [&](const ops::Parallel& parallel) {
      ops::conv_3x3_cpu(s, adjoint_, data<T>(x), data<T>(w), data<T>(y), parallel);
    });
  }

 private:
  bool adjoint_ = false;
};

template <typename T>
class Conv3x3FilterGrad : public Conv3x3Base {
 public:
  using Conv3x3Base::Conv3x3Base;

  void Compute(OpKernelContext* ctx) override {
    const Tensor &x = ctx->input(0), &dy = ctx->input(1);
    OP_REQUIRES(ctx, x.dims() == 4, tensorflow::errors::InvalidArgument("x: expected rank 4, found ", x.dims()));
    const auto results = [&](int axis) { return conv_3x3_size(x.dim_size(axis), stride(), false); };
    OP_REQUIRES(ctx, dy.dims() == 4 && dy.dim_size(0) == x.dim_size(0) && dy.dim_size(1) == results(1) &&
                         dy.dim_size(2) == results(2),
                tensorflow::errors::InvalidArgument("dy: expected [", x.dim_size(0), ", ", results(1), ", ", results(2),
                                                    ", out] for x ", x.shape().DebugString(), ", found ",
                                                    dy.shape().DebugString()));
    if (!good(ctx, x, x.dim_size(3), dy.dim_size(3), false)) return;
    ops::Conv3x3Shape s = shape(ctx);
    s.samples = x.dim_size(0), s.in_h = x.dim_size(1), s.in_w = x.dim_size(2), s.in = x.dim_size(3);
    s.out_h = dy.dim_size(1), s.out_w = dy.dim_size(2), s.out = dy.dim_size(3);
    Tensor* dw = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, TensorShape({3, 3, s.in, s.out}), &dw));
    if (dw->NumElements() == 0) return;
    on_cpu(ctx, [&](const ops::Parallel& parallel) {
      ops::conv_3x3_filter_grad_cpu(s, data<T>(x), data<T>(dy), data<T>(dw), parallel);
    });
  }
};

}  // namespace ops_tf

#define OPS_REGISTER_CONV_3X3(NAME, CLASS)                                                                    \
  REGISTER_KERNEL_BUILDER(Name(NAME).Device(tensorflow::DEVICE_CPU).TypeConstraint<float>("T"), CLASS<float>); \
  REGISTER_KERNEL_BUILDER(Name(NAME).Device(tensorflow::DEVICE_CPU).TypeConstraint<Eigen::bfloat16>("T"),      \
                          CLASS<Eigen::bfloat16>)
OPS_REGISTER_CONV_3X3("DnnlibConv3x3", ops_tf::Conv3x3);
OPS_REGISTER_CONV_3X3("DnnlibConv3x3FilterGrad", ops_tf::Conv3x3FilterGrad);
