// The kernels of kernels.inc, declared.
#ifndef SHADOWATTN_DELEGATE_KERNELS_PAGES_KERNELS_H_
#define SHADOWATTN_DELEGATE_KERNELS_PAGES_KERNELS_H_

#include <type_traits>

#include "kernels/pages/pages.h"

namespace shadow {

#define SHADOW_KERNEL(arch, name)                           \
  std::remove_pointer_t<LargestBoundFn> LargestBound##name; \
  std::remove_pointer_t<BitsBelowFn> BitsBelow##name;       \
  std::remove_pointer_t<SumBelowFn> SumBelow##name;         \
  std::remove_pointer_t<ListBitsFn> ListBits##name;
#include "kernels/pages/kernels.inc"
#undef SHADOW_KERNEL

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_PAGES_KERNELS_H_
