#include "kernels/select/select.h"

#include "kernels/select/kernels.h"

namespace shadow {

SelectInt32Fn GetSelectInt32Kernel(ArchFlags arch) {
#define SHADOW_KERNEL(needed, name) \
  if ((arch & (needed)) == (needed)) return SelectInt32##name;
#include "kernels/select/kernels.inc"
#undef SHADOW_KERNEL
  return nullptr;
}

SelectInt8Fn GetSelectInt8Kernel(ArchFlags arch) {
#define SHADOW_KERNEL(needed, name) \
  if ((arch & (needed)) == (needed)) return SelectInt8##name;
#include "kernels/select/kernels.inc"
#undef SHADOW_KERNEL
  return nullptr;
}

}  // namespace shadow
