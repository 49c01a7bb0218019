// The TensorFlow side of all ops in one translation unit: TensorFlow's headers take longer to read than the glue.
#include "tf_bias_act.h"
#include "tf_conv_3x3.h"
#include "tf_demodulation.h"
#include "tf_depthwise.h"
#include "tf_epilogue.h"
#include "tf_modulate.h"
#include "tf_upfirdn.h"
#include "tf_warp.h"
