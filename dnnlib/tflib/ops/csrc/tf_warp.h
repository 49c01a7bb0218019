// TensorFlow op DnnlibAffineWarp.
#pragma once

#include "tf_common.h"

REGISTER_OP("DnnlibAffineWarp")
    .Input("x: T")
    .Input("theta: T")
    .Output("y: T")
    .Attr("T: {float, double}")
    .Attr("taps: list(float)")
    .Attr("adjoint: bool")
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) -> tensorflow::Status {
      tensorflow::shape_inference::ShapeHandle x, theta;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 4, &x));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 3, &theta));
      c->set_output(0, x);
      return tensorflow::OkStatus();
    });

namespace ops_tf {

template <typename T, typename Device>
class AffineWarp : public OpKernel {
 public:
  explicit AffineWarp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("taps", &taps_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("adjoint", &adjoint_));
    OP_REQUIRES(ctx, taps_.size() == ops::kWarpTaps,
                tensorflow::errors::InvalidArgument("taps: found ", taps_.size(), ", expected ", ops::kWarpTaps));
  }

  void Compute(OpKernelContext* ctx) override {
    const Tensor &x = ctx->input(0), &theta = ctx->input(1);
    OP_REQUIRES(ctx, x.dims() == 4, tensorflow::errors::InvalidArgument("x: expected rank 4, found ", x.dims()));
    const ops::WarpShape s{x.dim_size(0), x.dim_size(1), static_cast<int>(x.dim_size(2)),
                           static_cast<int>(x.dim_size(3))};
    OP_REQUIRES(ctx, theta.shape() == TensorShape({s.samples, 2, 3}),
                tensorflow::errors::InvalidArgument("theta: expected [", s.samples, ", 2, 3], found ",
                                                    theta.shape().DebugString()));
    OP_REQUIRES(
        ctx, s.h >= 2 && s.w >= 2 && x.dim_size(2) < (1 << 20) && x.dim_size(3) < (1 << 20),
        tensorflow::errors::InvalidArgument("x: expected sides of at least 2, found ", x.shape().DebugString()));
    Tensor* y = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, x.shape(), &y));
    if (y->NumElements() == 0) return;
    launch(ctx, s, x, theta, y, Device());
  }

 private:
  void launch(OpKernelContext* ctx, const ops::WarpShape& s, const Tensor& x, const Tensor& theta, Tensor* y, Cpu) {
    on_cpu(ctx, [&](const ops::Parallel& parallel) {
      ops::warp_cpu(s, taps_.data(), adjoint_, data<T>(x), data<T>(theta), data<T>(y), parallel);
    });
  }
#ifdef OPS_WITH_CUDA
  void launch(OpKernelContext* ctx, const ops::WarpShape& s, const Tensor& x, const Tensor& theta, Tensor* y, Gpu) {
    const int64_t sizes[] = {s.samples, s.channels, s.h, s.w};
    check_launch(ctx, "affine_warp", ops_cuda_warp(Storage<T>::code, adjoint_, data<T>(x), data<T>(theta), data<T>(y),
                                                   sizes, taps_.data(), stream_of(ctx)));
  }
#endif

  std::vector<float> taps_;
  bool adjoint_ = false;
};

}  // namespace ops_tf

OPS_REGISTER("DnnlibAffineWarp", ops_tf::AffineWarp, tensorflow::DEVICE_CPU, ops_tf::Cpu, float, );
OPS_REGISTER("DnnlibAffineWarp", ops_tf::AffineWarp, tensorflow::DEVICE_CPU, ops_tf::Cpu, double, );
#ifdef OPS_WITH_CUDA
OPS_REGISTER("DnnlibAffineWarp", ops_tf::AffineWarp, tensorflow::DEVICE_GPU, ops_tf::Gpu, float, );
#endif
