#include "kernels/attend/attend.h"

#include "kernels/attend/dense_scratch.h"
#include "kernels/attend/kernels.h"
#include "kernels/attend/sparse_scratch.h"
#include "kernels/level.h"

namespace shadow {
namespace {

// All kernels of one ISA level.
struct Level {
  ArchFlags needed;
  SoftmaxSelectedFn softmax_selected[2];  // by CacheType
  AddValuesFn add_values[2];              // by CacheType
  SumValuesFn sum_values[2];              // by CacheType
  ScorePageFn score_page[2];              // by CacheType
  AttendDenseFn attend_dense[2];          // by CacheType
  StoreRowFn store_row[2];                // by CacheType
};

// Best first.
constexpr Level kLevels[] = {
#define SHADOW_KERNEL(needed, name)                      \
  {needed,                                               \
   {SoftmaxSelectedF32##name, SoftmaxSelectedF16##name}, \
   {AddValuesF32##name, AddValuesF16##name},             \
   {SumValuesF32##name, SumValuesF16##name},             \
   {ScorePageF32##name, ScorePageF16##name},             \
   {AttendDenseF32##name, AttendDenseF16##name},         \
   {StoreRowF32##name, StoreRowF16##name}},
#include "kernels/attend/kernels.inc"
#undef SHADOW_KERNEL
};

}  // namespace

SoftmaxSelectedFn GetSoftmaxSelectedKernel(ArchFlags arch, CacheType type) {
  return Best(kLevels, arch).softmax_selected[static_cast<int>(type)];
}
AddValuesFn GetAddValuesKernel(ArchFlags arch, CacheType type) {
  return Best(kLevels, arch).add_values[static_cast<int>(type)];
}
SumValuesFn GetSumValuesKernel(ArchFlags arch, CacheType type) {
  return Best(kLevels, arch).sum_values[static_cast<int>(type)];
}
ScorePageFn GetScorePageKernel(ArchFlags arch, CacheType type) {
  return Best(kLevels, arch).score_page[static_cast<int>(type)];
}
AttendDenseFn GetAttendDenseKernel(ArchFlags arch, CacheType type) {
  return Best(kLevels, arch).attend_dense[static_cast<int>(type)];
}
StoreRowFn GetStoreRowKernel(ArchFlags arch, CacheType type) {
  return Best(kLevels, arch).store_row[static_cast<int>(type)];
}

int64_t SparseScratchFloats(int rows, int head_dim) { return DivideSparseScratch(nullptr, rows, head_dim).floats; }

int64_t AttendDenseScratchFloats(int rows, int head_dim) { return DivideScratch(nullptr, rows, head_dim).floats; }

}  // namespace shadow
