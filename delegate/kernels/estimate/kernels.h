// The kernels of kernels.inc, declared.
#ifndef SHADOWATTN_DELEGATE_KERNELS_ESTIMATE_KERNELS_H_
#define SHADOWATTN_DELEGATE_KERNELS_ESTIMATE_KERNELS_H_

#include <type_traits>

#include "kernels/estimate/estimate.h"

namespace shadow {

#define SHADOW_KERNEL(arch, name)                   \
  std::remove_pointer_t<EstimateFn> Estimate##name; \
  std::remove_pointer_t<EstimateFn> EstimatePositive##name;
#include "kernels/estimate/kernels.inc"
#undef SHADOW_KERNEL

#if defined(SHADOW_HAS_AMX)
std::remove_pointer_t<EndEstimatesFn> EndEstimatesAvx512Amx;
#endif

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_ESTIMATE_KERNELS_H_
