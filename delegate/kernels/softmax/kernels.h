// The kernels of kernels.inc, declared.
#ifndef SHADOWATTN_DELEGATE_KERNELS_SOFTMAX_KERNELS_H_
#define SHADOWATTN_DELEGATE_KERNELS_SOFTMAX_KERNELS_H_

#include <type_traits>

#include "kernels/softmax/softmax.h"

namespace shadow {

#define SHADOW_KERNEL(arch, name)                           \
  std::remove_pointer_t<SoftmaxInt32Fn> SoftmaxInt32##name; \
  std::remove_pointer_t<SoftmaxInt8Fn> SoftmaxInt8##name;   \
  std::remove_pointer_t<SelectByThresholdFn> SelectByThreshold##name;
#include "kernels/softmax/kernels.inc"
#undef SHADOW_KERNEL

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_SOFTMAX_KERNELS_H_
