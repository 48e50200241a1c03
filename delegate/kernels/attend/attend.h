// Exact float attention: softmax(scale * q . k) v with the maximum subtracted, float32 arithmetic.
#ifndef SHADOWATTN_DELEGATE_KERNELS_ATTEND_ATTEND_H_
#define SHADOWATTN_DELEGATE_KERNELS_ATTEND_ATTEND_H_

#include <cstdint>

#include "kernels/arch.h"
#include "kernels/layout.h"

namespace shadow {

// The positions that each row of a tile selected: row r has k[r] >= 0 ascending ones from positions + r * stride on. Up
// to 16 more may be read.
struct Selection {
  const int32_t* positions;
  int64_t stride;
  const int32_t* k;
  int rows;
};

// Exact weights of the selected positions: weights[r * weights_stride + i] = exp(scale * q . k - the row's largest),
// sums[r] their sum; k[r] >= 1. q [rows][PaddedFloats(d)], zero beyond d, 64-byte aligned. weights_stride is a multiple
// of 16, at least the largest k rounded up to one plus 16: that much may be written.
// scratch: SparseScratchFloats(rows, d) floats, 64-byte aligned.
struct ExactTile {
  const float* q;
  Selection selected;
  float scale;
  float* weights;
  int64_t weights_stride;
  float* sums;
};
using SoftmaxSelectedFn = void (*)(const ExactTile& tile, const KvView& kv, float* scratch);
SoftmaxSelectedFn GetSoftmaxSelectedKernel(ArchFlags arch, CacheType type);

// out[r] = factor[r] * (start[r] + sum_i weights[r][i] * v[selected i] + sum_b rest[r][b] * page_sums[b]): the values
// of the selected positions and, where rest is not null, what the first `pages` pages hold beside them. start
// [rows][PaddedFloats(d)] is overwritten. rest [pages][page_residual_stride], of rows; page_sums
// [pages][PaddedFloats(d)]. out[r]: d floats, any alignment. A row's result does not depend on the other rows of the
// tile.
//
// rough: the weights are known to a hundredth or so. Machines that calculate with halves may then add up the values of
// eight positions in them, which is off by at most 2^-9 of sum_i |weights[r][i] * v| * factor[r], and 2^-24 * (1 + |v|)
// for each position, as halves end there; weights[r][i] * factor[r] must be in [0, 1].
struct ValueTile {
  Selection selected;
  const float* weights;
  int64_t weights_stride;
  const float* page_residual;
  int64_t page_residual_stride;
  const float* page_sums;
  int pages;
  float* start;
  const float* factor;
  float* const* out;
  bool allow_fp16 = false;
};
using AddValuesFn = void (*)(const ValueTile& tile, const KvView& kv);
AddValuesFn GetAddValuesKernel(ArchFlags arch, CacheType type);

// Of SoftmaxSelected, which passes over the cache block by block, so that a page is fetched and converted once for all
// rows. A row's result does not depend on the other rows of the tile.
int64_t SparseScratchFloats(int rows, int head_dim);

// sum [PaddedFloats(d)] += rows begin .. end - 1 of a page's values, in their order.
using SumValuesFn = void (*)(const void* v, int begin, int end, int head_dim, float* sum);
SumValuesFn GetSumValuesKernel(ArchFlags arch, CacheType type);

// scores[r * stride + j] = scale * q[r] . k[j] for the 64 keys of a page, j in [0, 64), r in [0, rows). q as above.
// scratch: PaddedFloats(d) * 64 floats, 64-byte aligned.
struct PageScores {
  const float* q;
  int rows;
  int head_dim;
  float scale;
  float* scores;
  int64_t stride;
};
using ScorePageFn = void (*)(const PageScores& job, const void* k, float* scratch);
ScorePageFn GetScorePageKernel(ArchFlags arch, CacheType type);

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
