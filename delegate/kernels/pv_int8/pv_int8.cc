#include "kernels/pv_int8/pv_int8.h"

#include "kernels/level.h"
#include "kernels/pv_int8/kernels.h"

namespace shadow {
namespace {

// All kernels of one ISA level.
struct Level {
  ArchFlags needed;
  QuantizeWeightsFn quantize_weights;
  AddProductsFn add_products;
  LargestValuesFn largest_values[2];  // by CacheType
  PackValuesFn pack_values[2];        // by CacheType
};

// Best first.
constexpr Level kLevels[] = {
#define SHADOW_KERNEL(needed, name)                  \
  {needed,                                           \
   QuantizeWeights##name,                            \
   AddProducts##name,                                \
   {LargestValuesF32##name, LargestValuesF16##name}, \
   {PackValuesF32##name, PackValuesF16##name}},
#include "kernels/pv_int8/kernels.inc"
#undef SHADOW_KERNEL
};

}  // namespace

QuantizeWeightsFn GetQuantizeWeightsKernel(ArchFlags arch) { return Best(kLevels, arch).quantize_weights; }
AddProductsFn GetAddProductsKernel(ArchFlags arch) { return Best(kLevels, arch).add_products; }
LargestValuesFn GetLargestValuesKernel(ArchFlags arch, CacheType type) {
  return Best(kLevels, arch).largest_values[static_cast<int>(type)];
}
PackValuesFn GetPackValuesKernel(ArchFlags arch, CacheType type) {
  return Best(kLevels, arch).pack_values[static_cast<int>(type)];
}

}  // namespace shadow
