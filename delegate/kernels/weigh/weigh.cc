#include "kernels/weigh/weigh.h"

#include "kernels/level.h"
#include "kernels/weigh/kernels.h"

namespace shadow {
namespace {

// All kernels of one ISA level.
struct Level {
  ArchFlags needed;
  WeighInt32Fn weigh_int32;
  WeighInt8Fn weigh_int8;
  ChooseFn choose;
};

// Best first.
constexpr Level kLevels[] = {
#define SHADOW_KERNEL(needed, name) {needed, WeighInt32##name, WeighInt8##name, Choose##name},
#include "kernels/weigh/kernels.inc"
#undef SHADOW_KERNEL
};

}  // namespace

WeighInt32Fn GetWeighInt32Kernel(ArchFlags arch) { return Best(kLevels, arch).weigh_int32; }
WeighInt8Fn GetWeighInt8Kernel(ArchFlags arch) { return Best(kLevels, arch).weigh_int8; }
ChooseFn GetChooseKernel(ArchFlags arch) { return Best(kLevels, arch).choose; }

}  // namespace shadow
