// The kernels of kernels.inc, declared.
#ifndef SHADOWATTN_DELEGATE_KERNELS_ATTEND_KERNELS_H_
#define SHADOWATTN_DELEGATE_KERNELS_ATTEND_KERNELS_H_

#include <type_traits>

#include "kernels/attend/attend.h"

namespace shadow {

#define SHADOW_KERNEL(arch, name)                                    \
  std::remove_pointer_t<SoftmaxSelectedFn> SoftmaxSelectedF32##name; \
  std::remove_pointer_t<SoftmaxSelectedFn> SoftmaxSelectedF16##name; \
  std::remove_pointer_t<AddValuesFn> AddValuesF32##name;             \
  std::remove_pointer_t<AddValuesFn> AddValuesF16##name;             \
  std::remove_pointer_t<SumValuesFn> SumValuesF32##name;             \
  std::remove_pointer_t<SumValuesFn> SumValuesF16##name;             \
  std::remove_pointer_t<ScorePageFn> ScorePageF32##name;             \
  std::remove_pointer_t<ScorePageFn> ScorePageF16##name;             \
  std::remove_pointer_t<AttendDenseFn> AttendDenseF32##name;         \
  std::remove_pointer_t<AttendDenseFn> AttendDenseF16##name;         \
  std::remove_pointer_t<StoreRowFn> StoreRowF32##name;               \
  std::remove_pointer_t<StoreRowFn> StoreRowF16##name;
#include "kernels/attend/kernels.inc"
#undef SHADOW_KERNEL

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_ATTEND_KERNELS_H_
