// The kernels of kernels.inc, declared.
#ifndef SHADOWATTN_DELEGATE_KERNELS_WEIGH_KERNELS_H_
#define SHADOWATTN_DELEGATE_KERNELS_WEIGH_KERNELS_H_

#include <type_traits>

#include "kernels/weigh/weigh.h"

namespace shadow {

#define SHADOW_KERNEL(arch, name)                       \
  std::remove_pointer_t<WeighInt32Fn> WeighInt32##name; \
  std::remove_pointer_t<WeighInt8Fn> WeighInt8##name;   \
  std::remove_pointer_t<ChooseFn> Choose##name;
#include "kernels/weigh/kernels.inc"
#undef SHADOW_KERNEL

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_WEIGH_KERNELS_H_
