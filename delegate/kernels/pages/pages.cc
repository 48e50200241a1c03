#include "kernels/pages/pages.h"

#include "kernels/level.h"
#include "kernels/pages/kernels.h"

namespace shadow {
namespace {

// All kernels of one ISA level.
struct Level {
  ArchFlags needed;
  LargestBoundFn largest_bound;
  BitsBelowFn bits_below;
  SumBelowFn sum_below;
  ListBitsFn list_bits;
};

// Best first.
constexpr Level kLevels[] = {
#define SHADOW_KERNEL(needed, name) {needed, LargestBound##name, BitsBelow##name, SumBelow##name, ListBits##name},
#include "kernels/pages/kernels.inc"
#undef SHADOW_KERNEL
};

}  // namespace

LargestBoundFn GetLargestBoundKernel(ArchFlags arch) { return Best(kLevels, arch).largest_bound; }
BitsBelowFn GetBitsBelowKernel(ArchFlags arch) { return Best(kLevels, arch).bits_below; }
SumBelowFn GetSumBelowKernel(ArchFlags arch) { return Best(kLevels, arch).sum_below; }
ListBitsFn GetListBitsKernel(ArchFlags arch) { return Best(kLevels, arch).list_bits; }

}  // namespace shadow
