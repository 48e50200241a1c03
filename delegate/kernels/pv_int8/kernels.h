// The kernels of kernels.inc, declared.
#ifndef SHADOWATTN_DELEGATE_KERNELS_PV_INT8_KERNELS_H_
#define SHADOWATTN_DELEGATE_KERNELS_PV_INT8_KERNELS_H_

#include <type_traits>

#include "kernels/pv_int8/pv_int8.h"

namespace shadow {

#define SHADOW_KERNEL(arch, name)                                 \
  std::remove_pointer_t<LargestValuesFn> LargestValuesF32##name;  \
  std::remove_pointer_t<LargestValuesFn> LargestValuesF16##name;  \
  std::remove_pointer_t<PackValuesFn> PackValuesF32##name;        \
  std::remove_pointer_t<PackValuesFn> PackValuesF16##name;        \
  std::remove_pointer_t<QuantizeWeightsFn> QuantizeWeights##name; \
  std::remove_pointer_t<AddProductsFn> AddProducts##name;
#include "kernels/pv_int8/kernels.inc"
#undef SHADOW_KERNEL

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_PV_INT8_KERNELS_H_
