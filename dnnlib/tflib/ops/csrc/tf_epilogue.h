// TensorFlow ops DnnlibEpilogue and DnnlibEpilogueGrad. Empty tensors stand for absent operands.
#pragma once

#include "tf_common.h"

REGISTER_OP("DnnlibEpilogue")
    .Input("x: T")
    .Input("scale: W")
    .Input("noise: T")
    .Input("strength: W")
    .Input("b: W")
    .Output("y: T")
    .Attr("T: {float, half, bfloat16, double}")
    .Attr("W: {float, double}")
    .Attr("data_format: {'NCHW', 'NHWC'}")
    .Attr("has_bias: bool")
    .Attr("act: int")
    .Attr("alpha: string")
    .Attr("gain: string")
    .Attr("clamp: string")
    .SetShapeFn(tensorflow::shape_inference::UnchangedShape);

// Without the gradient of the noise, which is rarely asked for.
REGISTER_OP("DnnlibEpilogueGrad")
    .Input("dy: T")
    .Input("y: T")
    .Input("x: T")
    .Input("scale: W")
    .Input("noise: T")
    .Input("strength: W")
    .Output("dx: T")
    .Output("dscale: W")
    .Output("dstrength: W")
    .Output("db: W")
    .Attr("T: {float, half, bfloat16, double}")
    .Attr("W: {float, double}")
    .Attr("data_format: {'NCHW', 'NHWC'}")
    .Attr("act: int")
    .Attr("alpha: string")
    .Attr("gain: string")
    .Attr("clamp: string")
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) -> tensorflow::Status {
      std::string format;
      TF_RETURN_IF_ERROR(c->GetAttr("data_format", &format));
      c->set_output(0, c->input(2));
      c->set_output(1, c->input(3));
      c->set_output(2, c->input(5));
      c->set_output(3, c->Vector(c->Dim(c->input(2), format == "NCHW" ? 1 : 3)));
      return tensorflow::OkStatus();
    });

namespace ops_tf {

class EpilogueBase : public OpKernel {
 public:
  explicit EpilogueBase(OpKernelConstruction* ctx) : OpKernel(ctx) {
    std::string format;
    OP_REQUIRES_OK(ctx, ctx->GetAttr("data_format", &format));
    OP_REQUIRES_OK(ctx, get_act(ctx, false, &params_));
    channels_last_ = format == "NHWC";
  }

 protected:
  static bool absent(const Tensor& t) { return t.dims() == 1 && t.NumElements() == 0; }

  bool shape(OpKernelContext* ctx, const Tensor& x, const Tensor& scale, const Tensor& noise, const Tensor& strength,
             ops::EpilogueShape* e) const {
    bool good = x.dims() == 4;
    if (good) {
      e->channels_last = channels_last_;
      e->samples = x.dim_size(0);
      e->channels = x.dim_size(channels_last_ ? 3 : 1);
      e->pixels = channels_last_ ? x.dim_size(1) * x.dim_size(2) : x.dim_size(2) * x.dim_size(3);
      good = absent(scale) || scale.shape() == TensorShape({e->samples, e->channels});
      if (!absent(noise)) {
        TensorShape one = x.shape();
        one.set_dim(channels_last_ ? 3 : 1, 1);
        if (noise.dims() == 4 && noise.dim_size(0) == 1) one.set_dim(0, 1);
        e->noise_samples = one.dim_size(0);
        good = good && noise.shape() == one && strength.dims() == 0;
      }
    }
    if (!good) {
      ctx->SetStatus(tensorflow::errors::InvalidArgument(
          "modulated_epilogue: found x ", x.shape().DebugString(), ", scale ", scale.shape().DebugString(), ", noise ",
          noise.shape().DebugString(), ", strength ", strength.shape().DebugString(), ", which do not fit together"));
    }
    return good;
  }

  ops::ActParams params_;
  bool channels_last_ = false;
};

template <typename T, typename Device>
class Epilogue : public EpilogueBase {
 public:
  using A = ops::wide_t<typename Storage<T>::type>;
  explicit Epilogue(OpKernelConstruction* ctx) : EpilogueBase(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("has_bias", &has_bias_));
  }

  void Compute(OpKernelContext* ctx) override {
    const Tensor &x = ctx->input(0), &scale = ctx->input(1), &noise = ctx->input(2), &strength = ctx->input(3),
                 &b = ctx->input(4);
    ops::EpilogueShape e;
    if (!shape(ctx, x, scale, noise, strength, &e)) return;
    OP_REQUIRES(ctx, b.NumElements() == (has_bias_ ? e.channels : 0),
                tensorflow::errors::InvalidArgument("b: found ", b.NumElements(), " numbers, expected ", e.channels));
    Tensor* y = nullptr;
    OP_REQUIRES_OK(ctx, ctx->forward_input_or_allocate_output({0}, 0, x.shape(), &y));
    if (y->NumElements()) launch(ctx, e, x, scale, noise, strength, b, y, Device());
  }

 private:
  void launch(OpKernelContext* ctx, const ops::EpilogueShape& e, const Tensor& x, const Tensor& scale,
              const Tensor& noise, const Tensor& strength, const Tensor& b, Tensor* y, Cpu) {
    on_cpu(ctx, [&](const ops::Parallel& parallel) {
      ops::epilogue_cpu(e, params_, data<T>(x), data<A>(scale), data<T>(noise), data<A>(strength), data<A>(b), data<T>(y),
                        parallel);
    });
  }
#ifdef OPS_WITH_CUDA
  void launch(OpKernelContext* ctx, const ops::EpilogueShape& e, const Tensor& x, const Tensor& scale,
              const Tensor& noise, const Tensor& strength, const Tensor& b, Tensor* y, Gpu) {
    const int64_t sizes[] = {e.samples, e.channels, e.pixels, e.noise_samples};
    check_launch(ctx, "modulated_epilogue",
                 ops_cuda_epilogue(Storage<T>::code, params_.act, params_.alpha, params_.gain, params_.clamp, data<T>(x),
                                   data<A>(scale), data<T>(noise), data<A>(strength), data<A>(b), data<T>(y), sizes,
                                   e.channels_last, stream_of(ctx)));
  }
#endif

  bool has_bias_ = false;
};

template <typename T, typename Device>
class EpilogueGrad : public EpilogueBase {
 public:
  using A = ops::wide_t<typename Storage<T>::type>;
  using EpilogueBase::EpilogueBase;

  void Compute(OpKernelContext* ctx) override {
    const Tensor &dy = ctx->input(0), &y = ctx->input(1), &x = ctx->input(2), &scale = ctx->input(3),
                 &noise = ctx->input(4), &strength = ctx->input(5);
    ops::EpilogueShape e;
    if (!shape(ctx, x, scale, noise, strength, &e)) return;
    const bool no_reference = absent(y) && constant_slope(params_);
    OP_REQUIRES(ctx, dy.shape() == x.shape() && (no_reference || y.shape() == x.shape()),
                tensorflow::errors::InvalidArgument("dy: found ", dy.shape().DebugString(), ", expected ",
                                                    x.shape().DebugString()));
    Tensor* out[4];
    OP_REQUIRES_OK(ctx, ctx->forward_input_or_allocate_output({0}, 0, x.shape(), &out[0]));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(1, scale.shape(), &out[1]));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(2, strength.shape(), &out[2]));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(3, TensorShape({e.channels}), &out[3]));
    launch(ctx, e, dy, y, x, scale, noise, out, Device());
  }

 private:
  void launch(OpKernelContext* ctx, const ops::EpilogueShape& e, const Tensor& dy, const Tensor& y, const Tensor& x,
              const Tensor& scale, const Tensor& noise, Tensor** out, Cpu) {
    on_cpu(ctx, [&](const ops::Parallel& parallel) {
      ops::epilogue_grad_cpu(e, params_, data<T>(dy), data<T>(y), data<T>(x), data<A>(scale), data<T>(noise),
                             data<T>(out[0]), data<A>(out[1]), data<A>(out[2]), data<A>(out[3]), parallel);
    });
  }
#ifdef OPS_WITH_CUDA
  void launch(OpKernelContext* ctx, const ops::EpilogueShape& e, const Tensor& dy, const Tensor& y, const Tensor& x,
              const Tensor& scale, const Tensor& noise, Tensor** out, Gpu) {
    const int64_t sizes[] = {e.samples, e.channels, e.pixels, e.noise_samples};
    Tensor holder;
    float* scratch = workspace(ctx, ops_cuda_epilogue_grad_workspace(sizes, e.channels_last), &holder);
    if (scratch == nullptr) return;
    check_launch(ctx, "modulated_epilogue gradient",
                 ops_cuda_epilogue_grad(Storage<T>::code, params_.act, params_.alpha, params_.gain, params_.clamp,
                                        data<T>(dy), data<T>(y), data<T>(x), data<A>(scale), data<T>(noise),
                                        data<T>(out[0]), data<A>(out[1]), data<A>(out[2]), data<A>(out[3]), scratch,
                                        sizes, e.channels_last, stream_of(ctx)));
  }
#endif
};

}  // namespace ops_tf

OPS_REGISTER_CPU("DnnlibEpilogue", ops_tf::Epilogue, OPS_WIDE);
OPS_REGISTER_CPU("DnnlibEpilogueGrad", ops_tf::EpilogueGrad, OPS_WIDE);
OPS_REGISTER_GPU("DnnlibEpilogue", ops_tf::Epilogue, OPS_WIDE);
OPS_REGISTER_GPU("DnnlibEpilogueGrad", ops_tf::EpilogueGrad, OPS_WIDE);
