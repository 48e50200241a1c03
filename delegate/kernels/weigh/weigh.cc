#include "kernels/weigh/weigh.h"

#include "kernels/weigh/kernels.h"

namespace shadow {

WeighInt32Fn GetWeighInt32Kernel(ArchFlags arch) {
#define SHADOW_KERNEL(needed, name) \
  if ((arch & (needed)) == (needed)) return WeighInt32##name;
#include "kernels/weigh/kernels.inc"
#undef SHADOW_KERNEL
  return nullptr;
}

WeighInt8Fn GetWeighInt8Kernel(ArchFlags arch) {
#define SHADOW_KERNEL(needed, name) \
  if ((arch & (needed)) == (needed)) return WeighInt8##name;
#include "kernels/weigh/kernels.inc"
#undef SHADOW_KERNEL
  return nullptr;
}

WeighFloatFn GetWeighFloatKernel(ArchFlags arch) {
#define SHADOW_KERNEL(needed, name) \
  if ((arch & (needed)) == (needed)) return WeighFloat##name;
#include "kernels/weigh/kernels.inc"
#undef SHADOW_KERNEL
  return nullptr;
}

ChooseFn GetChooseKernel(ArchFlags arch) {
#define SHADOW_KERNEL(needed, name) \
  if ((arch & (needed)) == (needed)) return Choose##name;
#include "kernels/weigh/kernels.inc"
#undef SHADOW_KERNEL
  return nullptr;
}

}  // namespace shadow
