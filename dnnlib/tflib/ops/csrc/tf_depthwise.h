// TensorFlow op DnnlibDepthwiseConv2d. An absent bias is an empty tensor.
#pragma once

#include "tf_common.h"

REGISTER_OP("DnnlibDepthwiseConv2d")
    .Input("x: T")
    .Input("w: T")
    .Input("b: T")
    .Output("y: T")
    .Attr("T: {float, half, bfloat16, double}")
    .Attr("stride: int >= 1")
    .Attr("low: string")
    .Attr("high: string")
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) -> tensorflow::Status {
      tensorflow::shape_inference::ShapeHandle x, w, b;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 4, &x));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 4, &w));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(2), 1, &b));
      int64_t stride;
      TF_RETURN_IF_ERROR(c->GetAttr("stride", &stride));
      for (int axis = 1; axis < 3; ++axis) {
        const auto size = c->Dim(x, axis);
        const auto out = c->ValueKnown(size) ? c->MakeDim((c->Value(size) + stride - 1) / stride) : c->UnknownDim();
        TF_RETURN_IF_ERROR(c->ReplaceDim(x, axis, out, &x));
      }
      c->set_output(0, x);
      return tensorflow::OkStatus();
    });

namespace ops_tf {

template <typename T, typename Device>
class DepthwiseConv2d : public OpKernel {
 public:
  explicit DepthwiseConv2d(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("stride", &stride_));
    OP_REQUIRES_OK(ctx, get_double(ctx, "low", &low_));
    OP_REQUIRES_OK(ctx, get_double(ctx, "high", &high_));
  }

  void Compute(OpKernelContext* ctx) override {
    const Tensor &x = ctx->input(0), &w = ctx->input(1), &b = ctx->input(2);
    OP_REQUIRES(ctx, x.dims() == 4, tensorflow::errors::InvalidArgument("x: expected rank 4, found ", x.dims()));
    OP_REQUIRES(ctx, w.dims() == 4 && w.dim_size(2) == x.dim_size(3) && w.dim_size(3) == 1 && w.NumElements() > 0,
                tensorflow::errors::InvalidArgument("w: expected [h, w, ", x.dim_size(3), ", 1], found ",
                                                    w.shape().DebugString()));
    OP_REQUIRES(ctx, b.NumElements() == 0 || b.shape() == TensorShape({x.dim_size(3)}),
                tensorflow::errors::InvalidArgument("b: expected [", x.dim_size(3), "], found ",
                                                    b.shape().DebugString()));
    for (const int64_t size : {x.dim_size(1), x.dim_size(2), w.dim_size(0), w.dim_size(1), int64_t{stride_}}) {
      OP_REQUIRES(ctx, size < (1 << 20),
                  tensorflow::errors::InvalidArgument("found size ", size, ", expected below 2^20"));
    }
    ops::DepthwiseShape s;
    s.samples = x.dim_size(0), s.channels = x.dim_size(3), s.stride = stride_, s.low = low_, s.high = high_;
    s.in_h = static_cast<int>(x.dim_size(1)), s.in_w = static_cast<int>(x.dim_size(2));
    s.kernel_h = static_cast<int>(w.dim_size(0)), s.kernel_w = static_cast<int>(w.dim_size(1));
    s.out_h = ops::same_size(s.in_h, stride_), s.out_w = ops::same_size(s.in_w, stride_);
    s.pad_y = ops::same_padding(s.in_h, s.kernel_h, stride_), s.pad_x = ops::same_padding(s.in_w, s.kernel_w, stride_);
    Tensor* y = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, TensorShape({s.samples, s.out_h, s.out_w, s.channels}), &y));
    if (y->NumElements() == 0) return;
    launch(ctx, s, x, w, b, y, Device());
  }

 private:
  void launch(OpKernelContext* ctx, const ops::DepthwiseShape& s, const Tensor& x, const Tensor& w, const Tensor& b,
              Tensor* y, Cpu) {
    on_cpu(ctx, [&](const ops::Parallel& parallel) {
      ops::depthwise_cpu(s, data<T>(x), data<T>(w), data<T>(b), data<T>(y), parallel);
    });
  }
#ifdef OPS_WITH_CUDA
  void launch(OpKernelContext* ctx, const ops::DepthwiseShape& s, const Tensor& x, const Tensor& w, const Tensor& b,
              Tensor* y, Gpu) {
    const int64_t sizes[] = {s.samples, s.channels, s.in_h, s.in_w, s.kernel_h, s.kernel_w, s.stride};
    check_launch(ctx, "depthwise_conv_2d", ops_cuda_depthwise(Storage<T>::code, s.low, s.high, data<T>(x), data<T>(w),
                                                              data<T>(b), data<T>(y), sizes, stream_of(ctx)));
  }
#endif

  int stride_ = 1;
  double low_ = 0, high_ = 0;
};

}  // namespace ops_tf

OPS_REGISTER_CPU("DnnlibDepthwiseConv2d", ops_tf::DepthwiseConv2d, OPS_NO_WIDE);
OPS_REGISTER_GPU("DnnlibDepthwiseConv2d", ops_tf::DepthwiseConv2d, OPS_NO_WIDE);
