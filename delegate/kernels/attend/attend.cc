#include "kernels/attend/attend.h"

#include "kernels/attend/dense_scratch.h"
#include "kernels/attend/kernels.h"
#include "kernels/attend/sparse_scratch.h"

namespace shadow {

WeighSelectedFn GetWeighSelectedKernel(ArchFlags arch, CacheType type) {
#define SHADOW_KERNEL(needed, name)  \
  if ((arch & (needed)) == (needed)) \
    return type == CacheType::kFloat32 ? WeighSelectedF32##name : WeighSelectedF16##name;
#include "kernels/attend/kernels.inc"
#undef SHADOW_KERNEL
  return nullptr;
}

AddValuesFn GetAddValuesKernel(ArchFlags arch, CacheType type) {
#define SHADOW_KERNEL(needed, name) \
  if ((arch & (needed)) == (needed)) return type == CacheType::kFloat32 ? AddValuesF32##name : AddValuesF16##name;
#include "kernels/attend/kernels.inc"
#undef SHADOW_KERNEL
  return nullptr;
}

SumValuesFn GetSumValuesKernel(ArchFlags arch, CacheType type) {
#define SHADOW_KERNEL(needed, name) \
  if ((arch & (needed)) == (needed)) return type == CacheType::kFloat32 ? SumValuesF32##name : SumValuesF16##name;
#include "kernels/attend/kernels.inc"
#undef SHADOW_KERNEL
  return nullptr;
}

ScorePageFn GetScorePageKernel(ArchFlags arch, CacheType type) {
#define SHADOW_KERNEL(needed, name) \
  if ((arch & (needed)) == (needed)) return type == CacheType::kFloat32 ? ScorePageF32##name : ScorePageF16##name;
#include "kernels/attend/kernels.inc"
#undef SHADOW_KERNEL
  return nullptr;
}

AttendDenseFn GetAttendDenseKernel(ArchFlags arch, CacheType type) {
#define SHADOW_KERNEL(needed, name) \
  if ((arch & (needed)) == (needed)) return type == CacheType::kFloat32 ? AttendDenseF32##name : AttendDenseF16##name;
#include "kernels/attend/kernels.inc"
#undef SHADOW_KERNEL
  return nullptr;
}

StoreRowFn GetStoreRowKernel(ArchFlags arch, CacheType type) {
#define SHADOW_KERNEL(needed, name) \
  if ((arch & (needed)) == (needed)) return type == CacheType::kFloat32 ? StoreRowF32##name : StoreRowF16##name;
#include "kernels/attend/kernels.inc"
#undef SHADOW_KERNEL
  return nullptr;
}

int64_t SparseScratchFloats(int rows, int head_dim) { return DivideSparseScratch(nullptr, rows, head_dim).floats; }

int64_t AttendDenseScratchFloats(int rows, int head_dim) { return DivideScratch(nullptr, rows, head_dim).floats; }

}  // namespace shadow
