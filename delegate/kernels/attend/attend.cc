#include "kernels/attend/attend.h"

#include "kernels/attend/dense_scratch.h"
#include "kernels/attend/kernels.h"
#include "kernels/attend/sparse_scratch.h"

namespace shadow {

AttendSparseFn GetAttendSparseKernel(ArchFlags arch, CacheType type) {
#define SHADOW_KERNEL(needed, name) \
  if ((arch & (needed)) == (needed)) return type == CacheType::kFloat32 ? AttendSparseF32##name : AttendSparseF16##name;
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

int64_t AttendSparseScratchFloats(int rows, int largest_k, int pages, int head_dim) {
  return DivideSparseScratch(nullptr, rows, largest_k, (pages + kBlockPages - 1) / kBlockPages, head_dim).floats;
}

int64_t AttendDenseScratchFloats(int rows, int head_dim) { return DivideScratch(nullptr, rows, head_dim).floats; }

}  // namespace shadow
