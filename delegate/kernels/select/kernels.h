// The kernels of kernels.inc, declared.
#ifndef SHADOWATTN_DELEGATE_KERNELS_SELECT_KERNELS_H_
#define SHADOWATTN_DELEGATE_KERNELS_SELECT_KERNELS_H_

#include <type_traits>

#include "kernels/select/select.h"

namespace shadow {

#define SHADOW_KERNEL(arch, name)                         \
  std::remove_pointer_t<SelectInt32Fn> SelectInt32##name; \
  std::remove_pointer_t<SelectInt8Fn> SelectInt8##name;
#include "kernels/select/kernels.inc"
#undef SHADOW_KERNEL

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_SELECT_KERNELS_H_
