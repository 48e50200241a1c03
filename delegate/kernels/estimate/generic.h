// The estimate over the dot product of one ISA. Only ISA files include this; each defines a type D:
//
//   D::kRows, D::kVecs          register tile: query rows x vectors of keys
//   D::kKeys                    keys of one vector
//   D::Key   LoadKey(p)         4 channels of kKeys keys, from uint8 (key + 128)
//   D::Query LoadQuery(p)       4 channels of one query, repeated for every key
//   D::Sums  Start(q_sum), Dot4(sums, key, query), void Store(scores, sums)
//   D::kUsesSum                 Key is key + 128 and Start subtracts 128 * q_sum; otherwise q_sum may be null
#ifndef SHADOWATTN_DELEGATE_KERNELS_ESTIMATE_GENERIC_H_
#define SHADOWATTN_DELEGATE_KERNELS_ESTIMATE_GENERIC_H_

#include <cstdint>

#include "kernels/estimate/kernels.h"
#include "kernels/layout.h"

namespace shadow {

// R query rows, the first of them number `first`, against D::kVecs vectors of keys; k_u8 points at the first of these.
template <class D, int R>
void EstimateBlock(const QueryRows& rows, int first, const uint8_t* k_u8, int d_padded, int32_t* scores,
                   ptrdiff_t stride) {
  const int8_t* q[R];
  typename D::Sums sums[R][D::kVecs];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const ptrdiff_t row = rows.at == nullptr ? first + r : rows.at[first + r];
    q[r] = rows.q + row * d_padded;
#pragma GCC unroll 8
    for (int v = 0; v < D::kVecs; ++v) sums[r][v] = D::Start(D::kUsesSum ? rows.sum[row] : 0);
  }
  for (int c = 0; c < d_padded; c += 4, k_u8 += kPageRows * 4) {
    typename D::Key key[D::kVecs];
#pragma GCC unroll 8
    for (int v = 0; v < D::kVecs; ++v) key[v] = D::LoadKey(k_u8 + v * D::kKeys * 4);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const typename D::Query query = D::LoadQuery(q[r] + c);
#pragma GCC unroll 8
      for (int v = 0; v < D::kVecs; ++v) sums[r][v] = D::Dot4(sums[r][v], key[v], query);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < D::kVecs; ++v) D::Store(scores + r * stride + v * D::kKeys, sums[r][v]);
  }
}

template <class D, int R>
void EstimateRows(const QueryRows& rows, int first, const uint8_t* k_u8, int d_padded, int32_t* scores,
                  ptrdiff_t stride) {
  constexpr int kBlock = D::kVecs * D::kKeys;
  static_assert(kPageRows % kBlock == 0);
  for (int j = 0; j < kPageRows; j += kBlock) {
    EstimateBlock<D, R>(rows, first, k_u8 + j * 4, d_padded, scores + first * stride + j, stride);
  }
}

// The last rows, at most R: there is one compiled tile for every count.
template <class D, int R>
void EstimateLast(const QueryRows& rows, int first, const uint8_t* k_u8, int d_padded, int32_t* scores,
                  ptrdiff_t stride) {
  if constexpr (R > 0) {
    if (rows.rows - first == R) return EstimateRows<D, R>(rows, first, k_u8, d_padded, scores, stride);
    EstimateLast<D, R - 1>(rows, first, k_u8, d_padded, scores, stride);
  }
}

template <class D>
void Estimate(const QueryRows& rows, const uint8_t* k_u8, int d_padded, int32_t* scores, ptrdiff_t stride) {
  int r = 0;
  for (; r + D::kRows <= rows.rows; r += D::kRows) EstimateRows<D, D::kRows>(rows, r, k_u8, d_padded, scores, stride);
  EstimateLast<D, D::kRows - 1>(rows, r, k_u8, d_padded, scores, stride);
}

// Defines the kernels of one ISA. PositiveD: a D for queries in [0, 127], without kUsesSum.
#define SHADOW_DEFINE_ESTIMATE(name, D, PositiveD)                                                                   \
  void Estimate##name(const QueryRows& rows, const uint8_t* k_u8, int d_padded, int32_t* scores, ptrdiff_t stride) { \
    Estimate<D>(rows, k_u8, d_padded, scores, stride);                                                               \
  }                                                                                                                  \
  void EstimatePositive##name(const QueryRows& rows, const uint8_t* k_u8, int d_padded, int32_t* scores,             \
                              ptrdiff_t stride) {                                                                    \
    static_assert(!PositiveD::kUsesSum);                                                                             \
    Estimate<PositiveD>(rows, k_u8, d_padded, scores, stride);                                                       \
  }

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_ESTIMATE_GENERIC_H_
