#include "kernels/softmax/softmax.h"

#include "kernels/level.h"
#include "kernels/softmax/kernels.h"

namespace shadow {
namespace {

// All kernels of one ISA level.
struct Level {
  ArchFlags needed;
  SoftmaxInt32Fn softmax_int32;
  SoftmaxInt8Fn softmax_int8;
  SelectByThresholdFn select_by_threshold;
};

// Best first.
constexpr Level kLevels[] = {
#define SHADOW_KERNEL(needed, name) {needed, SoftmaxInt32##name, SoftmaxInt8##name, SelectByThreshold##name},
#include "kernels/softmax/kernels.inc"
#undef SHADOW_KERNEL
};

}  // namespace

SoftmaxInt32Fn GetSoftmaxInt32Kernel(ArchFlags arch) { return Best(kLevels, arch).softmax_int32; }
SoftmaxInt8Fn GetSoftmaxInt8Kernel(ArchFlags arch) { return Best(kLevels, arch).softmax_int8; }
SelectByThresholdFn GetSelectByThresholdKernel(ArchFlags arch) { return Best(kLevels, arch).select_by_threshold; }

}  // namespace shadow
