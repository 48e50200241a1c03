// INT8 estimate: scores of a tile of query rows against one page of 64 keys (docs/algorithm.md, step 2). INT8 Q.K^T as
// an estimate is the method of arXiv 2508.16703.
#ifndef SHADOWATTN_DELEGATE_KERNELS_ESTIMATE_ESTIMATE_H_
#define SHADOWATTN_DELEGATE_KERNELS_ESTIMATE_ESTIMATE_H_

#include <cstddef>
#include <cstdint>

#include "kernels/arch.h"

namespace shadow {

// INT8 query rows.
struct QueryRows {
  const int8_t* q;              // [][d_padded], 0 beyond d
  const int32_t* sum;           // []: sum of each row's channels, for the u8 x s8 instructions; not read by the kernels
                                // for queries in [0, 127]
  int rows;                     // number of rows to score
  const int32_t* at = nullptr;  // [rows]: row r to score is number at[r] of q and sum; null: number r
};

// scores[r * stride + j] = sum_c q[row r][c] * (k_u8[c / 4][j][c % 4] - 128), exact int32, j in [0, 64), r in
// [0, rows); rows >= 1. k_u8 >= 1: a key is at least -127. d_padded is a multiple of 4. scores rows are 64-byte aligned
// (stride a multiple of 16).
using EstimateFn = void (*)(const QueryRows& rows, const uint8_t* k_u8, int d_padded, int32_t* scores,
                            ptrdiff_t stride);
EstimateFn GetEstimateKernel(ArchFlags arch);

// The same for q in [0, 127], such as quantised softmax weights: faster, because there is no sign to handle.
EstimateFn GetEstimatePositiveKernel(ArchFlags arch);

// Estimate kernels may leave tile registers configured for the next call on the same thread. This releases them after
// the last call, so that the operating system has less to save. Results do not depend on it.
using EndEstimatesFn = void (*)();
EndEstimatesFn GetEndEstimates(ArchFlags arch);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_ESTIMATE_ESTIMATE_H_
