// Float attention, softmax(scale * q . k) v with the row maximum subtracted, in float32: over selected positions
// (weights and values in two kernels) and over all visible positions (dense, with online softmax over tiles of queries,
// as FlashAttention, arXiv 2205.14135, does it). docs/algorithm.md, step 4.
#ifndef SHADOWATTN_DELEGATE_KERNELS_ATTEND_ATTEND_H_
#define SHADOWATTN_DELEGATE_KERNELS_ATTEND_ATTEND_H_

#include <cstdint>

#include "kernels/arch.h"
#include "kernels/layout.h"

namespace shadow {

// Positions that each query row of a tile selected: row r has k[r] >= 0 of them, ascending, from positions + r * stride
// on. The kernels may read up to 16 elements more.
struct Selection {
  const int32_t* positions;
  int64_t stride;
  const int32_t* k;
  int rows;
};

// Exact softmax weights of the selected positions: weights[r * weights_stride + i] = exp(scale * q . k - max), where
// max is the row's largest scale * q . k; sums[r] is their sum; k[r] >= 1. q [rows][PaddedFloats(d)], zero beyond d,
// 64-byte aligned. weights_stride is a multiple of 16 and at least the largest k, rounded up to a multiple of 16, plus
// 16: the kernel may write that much. scratch: SparseScratchFloats(rows, d) floats, 64-byte aligned.
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

// out[r] = factor[r] * (start[r] + sum_i weights[r][i] * v[selected i] + sum_b page_residual[b][r] * page_sums[b]): the
// values of the selected positions and, where page_residual is not null, residual compensation by the sums of the
// values of the first `pages` pages. start [rows][PaddedFloats(d)] is overwritten. page_residual
// [pages][page_residual_stride]; page_sums [pages][PaddedFloats(d)]. out[r]: d floats, any alignment. A row's result
// does not depend on the other rows of the tile.
//
// allow_fp16: the weights are approximate (they come from INT8 scores), so a machine with FP16 arithmetic may sum the
// values of eight positions in FP16. The error is then at most 2^-9 of sum_i |weights[r][i] * v| * factor[r], plus
// 2^-24 * (1 + |v|) for each position, the smallest step of FP16. weights[r][i] * factor[r] must be in [0, 1].
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

// Scratch of SoftmaxSelected, in floats. The kernel passes over the cache block by block, so that a page is fetched and
// converted once for all rows of the tile. A row's result does not depend on the other rows of the tile.
int64_t SparseScratchFloats(int rows, int head_dim);

// sum [PaddedFloats(d)] += v[i] for rows i = begin .. end - 1 of a page, in this order.
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

// A tile of query rows attends to all its visible positions (mode dense), page by page with a running maximum. A row's
// result does not depend on the other rows of the tile.
// q [rows][PaddedFloats(d)] as above; causal [rows]: row r attends to positions 0 .. causal[r] - 1 (causal[r] >= 1).
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

// Stores one row of float32 in a page. Conversion to FP16 rounds to nearest even; what does not fit becomes infinity.
// dst has PaddedFloats(d) elements; those beyond d become zero.
using StoreRowFn = void (*)(const float* src, int d, void* dst);
StoreRowFn GetStoreRowKernel(ArchFlags arch, CacheType type);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_ATTEND_ATTEND_H_
