#include "kernels/blend/blend.h"

#include "kernels/blend/kernels.h"

namespace shadow {

LargestValuesFn GetLargestValuesKernel(ArchFlags arch, CacheType type) {
#define SHADOW_KERNEL(needed, name)  \
  if ((arch & (needed)) == (needed)) \
    return type == CacheType::kFloat32 ? LargestValuesF32##name : LargestValuesF16##name;
#include "kernels/blend/kernels.inc"
#undef SHADOW_KERNEL
  return nullptr;
}

PackValuesFn GetPackValuesKernel(ArchFlags arch, CacheType type) {
#define SHADOW_KERNEL(needed, name) \
  if ((arch & (needed)) == (needed)) return type == CacheType::kFloat32 ? PackValuesF32##name : PackValuesF16##name;
#include "kernels/blend/kernels.inc"
#undef SHADOW_KERNEL
  return nullptr;
}

QuantizeWeightsFn GetQuantizeWeightsKernel(ArchFlags arch) {
#define SHADOW_KERNEL(needed, name) \
  if ((arch & (needed)) == (needed)) return QuantizeWeights##name;
#include "kernels/blend/kernels.inc"
#undef SHADOW_KERNEL
  return nullptr;
}

AddProductsFn GetAddProductsKernel(ArchFlags arch) {
#define SHADOW_KERNEL(needed, name) \
  if ((arch & (needed)) == (needed)) return AddProducts##name;
#include "kernels/blend/kernels.inc"
#undef SHADOW_KERNEL
  return nullptr;
}

}  // namespace shadow
