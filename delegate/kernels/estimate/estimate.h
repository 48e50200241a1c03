// INT8 scores of a tile of query rows against one page of 64 keys.
#ifndef SHADOWATTN_DELEGATE_KERNELS_ESTIMATE_ESTIMATE_H_
#define SHADOWATTN_DELEGATE_KERNELS_ESTIMATE_ESTIMATE_H_

#include <cstddef>
#include <cstdint>

#include "kernels/arch.h"

namespace shadow {

// scores[r * stride + j] = sum_c q[r][c] * (k_u8[c / 4][j][c % 4] - 128), exact int32, j in [0, 64), r in [0, rows).
// q [rows][d_padded] int8, zero beyond d; q_sum [rows] = sum_c q[r][c] (for the u8 x s8 instructions); any rows >= 1.
// k_u8 >= 1: a key is at least -127. d_padded is a multiple of 4. scores rows are 64-byte aligned (stride a multiple of
// 16).
using EstimateFn = void (*)(const int8_t* q, const int32_t* q_sum, int rows, const uint8_t* k_u8, int d_padded,
                            int32_t* scores, ptrdiff_t stride);
EstimateFn GetEstimateKernel(ArchFlags arch);

// The same for q in [0, 127], such as weights in uint7: faster, as no sign has to be taken care of.
using EstimatePositiveFn = void (*)(const int8_t* q, int rows, const uint8_t* k_u8, int d_padded, int32_t* scores,
                                    ptrdiff_t stride);
EstimatePositiveFn GetEstimatePositiveKernel(ArchFlags arch);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_ESTIMATE_ESTIMATE_H_
