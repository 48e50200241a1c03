#include "kernels/estimate/estimate.h"

#include "kernels/estimate/kernels.h"

namespace shadow {

EstimateFn GetEstimateKernel(ArchFlags arch) {
#define SHADOW_KERNEL(needed, name) \
  if ((arch & (needed)) == (needed)) return Estimate##name;
#include "kernels/estimate/kernels.inc"
#undef SHADOW_KERNEL
  return nullptr;
}

EstimateFn GetEstimatePositiveKernel(ArchFlags arch) {
#define SHADOW_KERNEL(needed, name) \
  if ((arch & (needed)) == (needed)) return EstimatePositive##name;
#include "kernels/estimate/kernels.inc"
#undef SHADOW_KERNEL
  return nullptr;
}

EndEstimatesFn GetEndEstimates(ArchFlags arch) {
#if defined(SHADOW_HAS_AMX)
  if ((arch & kArchAvx512Amx) != 0) return EndEstimatesAvx512Amx;
#endif
  static_cast<void>(arch);
  return [] {};
}

}  // namespace shadow
