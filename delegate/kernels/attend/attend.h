// Exact float attention: softmax(scale * q . k) v with the maximum subtracted, float32 arithmetic.
#ifndef SHADOWATTN_DELEGATE_KERNELS_ATTEND_ATTEND_H_
#define SHADOWATTN_DELEGATE_KERNELS_ATTEND_ATTEND_H_

#include <cstdint>

#include "kernels/arch.h"
#include "kernels/layout.h"

namespace shadow {

// A tile of query rows, each over its own selected positions, page by page, so that a page is fetched and converted
// once for all rows. A row's result does not depend on the other rows of the tile. q [rows][PaddedFloats(d)], zero
// beyond d, 64-byte aligned, not yet scaled. Row r has k[r] >= 1 ascending positions from selected + r *
// selected_stride on. out[r]: d floats, any alignment. scratch: AttendSparseScratchFloats(rows, largest k, pages of the
// cache, d) floats, 64-byte aligned.
struct SparseTile {
  const float* q;
  const int32_t* selected;
  int64_t selected_stride;
  const int32_t* k;
  float* const* out;
  int rows;
  float scale;
};
using AttendSparseFn = void (*)(const SparseTile& tile, const KvView& kv, float* scratch);
AttendSparseFn GetAttendSparseKernel(ArchFlags arch, CacheType type);
int64_t AttendSparseScratchFloats(int rows, int largest_k, int pages, int head_dim);

// A tile of query rows over all their causal positions (mode dense), page by page with a running maximum. A row's
// result does not depend on the other rows of the tile.
// q [rows][PaddedFloats(d)] as above; causal [rows]: row r sees positions 0 .. causal[r]-1 (causal[r] >= 1).
// out[r]: d floats, any alignment. scratch: AttendDenseScratchFloats(rows, d) floats, 64-byte aligned.
struct DenseTile {
  const float* q;
  const int32_t* causal;
  float* const* out;
  int rows;
  float scale;
};
using AttendDenseFn = void (*)(const DenseTile& tile, const KvView& kv, float* scratch);
AttendDenseFn GetAttendDenseKernel(ArchFlags arch, CacheType type);
int64_t AttendDenseScratchFloats(int rows, int head_dim);

// Rows of float32 into the storage of a page (and back, for tests). Conversion to binary16 rounds to nearest even;
// what does not fit becomes infinity. dst has PaddedFloats(d) elements; those beyond d are written as zero.
using StoreRowFn = void (*)(const float* src, int d, void* dst);
StoreRowFn GetStoreRowKernel(ArchFlags arch, CacheType type);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_ATTEND_ATTEND_H_
