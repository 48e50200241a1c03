// INT8 scores of a tile of query rows against one page of 64 keys.
#ifndef SHADOWATTN_DELEGATE_KERNELS_ESTIMATE_ESTIMATE_H_
#define SHADOWATTN_DELEGATE_KERNELS_ESTIMATE_ESTIMATE_H_

#include <cstddef>
#include <cstdint>

#include "kernels/arch.h"

namespace shadow {

// INT8 query rows [][d_padded], zero beyond d. Row r is the at[r]-th; at null: the r-th. sum: of the channels of each
// row (for the u8 x s8 instructions), which EstimatePositive does not read.
struct QueryRows {
  const int8_t* q;
  const int32_t* sum;
  int rows;
  const int32_t* at = nullptr;
};

// scores[r * stride + j] = sum_c q[row r][c] * (k_u8[c / 4][j][c % 4] - 128), exact int32, j in [0, 64), r in
// [0, rows); rows >= 1. k_u8 >= 1: a key is at least -127. d_padded is a multiple of 4. scores rows are 64-byte aligned
// (stride a multiple of 16).
using EstimateFn = void (*)(const QueryRows& rows, const uint8_t* k_u8, int d_padded, int32_t* scores,
                            ptrdiff_t stride);
EstimateFn GetEstimateKernel(ArchFlags arch);

// The same for q in [0, 127], such as weights in uint7: faster, as no sign has to be taken care of.
EstimateFn GetEstimatePositiveKernel(ArchFlags arch);

// Estimates may leave registers set for the next one on the same thread. Called after the last of some, this gives them
// back: the operating system then has less to save. Never needed for right results.
using EndEstimatesFn = void (*)();
EndEstimatesFn GetEndEstimates(ArchFlags arch);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_ESTIMATE_ESTIMATE_H_
