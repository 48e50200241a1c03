// The kernels of kernels.inc, declared.
#ifndef SHADOWATTN_DELEGATE_KERNELS_QUANTIZE_KERNELS_H_
#define SHADOWATTN_DELEGATE_KERNELS_QUANTIZE_KERNELS_H_

#include <type_traits>

#include "kernels/quantize/quantize.h"

namespace shadow {

#define SHADOW_KERNEL(arch, name)                         \
  std::remove_pointer_t<QuantizeKeyFn> QuantizeKey##name; \
  std::remove_pointer_t<QuantizeQueryFn> QuantizeQuery##name;
#include "kernels/quantize/kernels.inc"
#undef SHADOW_KERNEL

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_QUANTIZE_KERNELS_H_
