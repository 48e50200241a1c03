// smmla: two queries by two keys by 8 channels, summed exactly into four int32s. A page stores keys by four channels,
// so two groups of four are interleaved as they are loaded. An odd last query goes to sdot: the integers are the same,
// and smmla would waste half of its products.
#include <arm_neon.h>

#include "kernels/estimate/kernels.h"
#include "kernels/layout.h"

namespace shadow {
namespace {

constexpr int kMaxPairs = 4;                     // of query rows at a time
constexpr ptrdiff_t kKeyStride = kPageRows * 4;  // bytes from four channels of a page to the next four

// Keys of one block, in fours: with few pairs of queries there are more, so that sums do not wait for each other.
constexpr int FoursOfKeys(int pairs) { return pairs > 2 ? 2 : 4; }

const int8_t* Row(const QueryRows& rows, int r, int d_padded) {
  const ptrdiff_t row = rows.at == nullptr ? r : rows.at[r];
  return rows.q + row * d_padded;
}

// 4 channels of four keys.
int32x4_t LoadKeys(const uint8_t* p) { return vreinterpretq_s32_u8(veorq_u8(vld1q_u8(p), vdupq_n_u8(128))); }

int8x8_t LoadFourChannels(const int8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, sizeof(four));
  return vreinterpret_s8_s32(vset_lane_s32(four, vdup_n_s32(0), 0));
}

// sums += the products of 8 channels, or of the last 4; q + c and k_u8 point at the first of these. sums[p][i]: queries
// 2p and 2p + 1 by keys 2i and 2i + 1. Always inline, so that the sums stay in registers.
template <int kPairs, int kFours, int kChannels>
[[gnu::always_inline]] inline void AddChannels(const int8_t* const (&q)[2 * kPairs], int c, const uint8_t* k_u8,
                                               int32x4_t (&sums)[kPairs][2 * kFours]) {
  int8x16_t keys[2 * kFours];  // two keys each
#pragma GCC unroll 4
  for (int i = 0; i < kFours; ++i) {
    const int32x4_t first = LoadKeys(k_u8 + i * 16);
    const int32x4_t second = kChannels == 8 ? LoadKeys(k_u8 + kKeyStride + i * 16) : vdupq_n_s32(0);
    keys[2 * i] = vreinterpretq_s8_s32(vzip1q_s32(first, second));
    keys[2 * i + 1] = vreinterpretq_s8_s32(vzip2q_s32(first, second));
  }
#pragma GCC unroll 4
  for (int p = 0; p < kPairs; ++p) {
    const int8_t* even = q[2 * p] + c;
    const int8_t* odd = q[2 * p + 1] + c;
    const int8x16_t pair = kChannels == 8 ? vcombine_s8(vld1_s8(even), vld1_s8(odd))
                                          : vcombine_s8(LoadFourChannels(even), LoadFourChannels(odd));
#pragma GCC unroll 8
    for (int i = 0; i < 2 * kFours; ++i) sums[p][i] = vmmlaq_s32(sums[p][i], pair, keys[i]);
  }
}

// 2 * kPairs query rows against 4 * kFours keys; k_u8 points at the first of these.
template <int kPairs, int kFours>
void EstimateBlock(const int8_t* const (&q)[2 * kPairs], const uint8_t* k_u8, int d_padded, int32_t* scores,
                   ptrdiff_t stride) {
  int32x4_t sums[kPairs][2 * kFours];
#pragma GCC unroll 4
  for (int p = 0; p < kPairs; ++p) {
#pragma GCC unroll 8
    for (int i = 0; i < 2 * kFours; ++i) sums[p][i] = vdupq_n_s32(0);
  }
  int c = 0;
  for (; c + 8 <= d_padded; c += 8, k_u8 += 2 * kKeyStride) AddChannels<kPairs, kFours, 8>(q, c, k_u8, sums);
  if (c < d_padded) AddChannels<kPairs, kFours, 4>(q, c, k_u8, sums);
#pragma GCC unroll 4
  for (int p = 0; p < kPairs; ++p) {
#pragma GCC unroll 4
    for (int i = 0; i < kFours; ++i) {
      const int64x2_t low = vreinterpretq_s64_s32(sums[p][2 * i]), high = vreinterpretq_s64_s32(sums[p][2 * i + 1]);
      int32_t* to = scores + 2 * p * stride + 4 * i;
      vst1q_s32(to, vreinterpretq_s32_s64(vzip1q_s64(low, high)));
      vst1q_s32(to + stride, vreinterpretq_s32_s64(vzip2q_s64(low, high)));
    }
  }
}

template <int kPairs>
void EstimatePairs(const QueryRows& rows, int first, const uint8_t* k_u8, int d_padded, int32_t* scores,
                   ptrdiff_t stride) {
  constexpr int kFours = FoursOfKeys(kPairs);
  static_assert(kPageRows % (4 * kFours) == 0);
  const int8_t* q[2 * kPairs];
#pragma GCC unroll 8
  for (int r = 0; r < 2 * kPairs; ++r) q[r] = Row(rows, first + r, d_padded);
  for (int j = 0; j < kPageRows; j += 4 * kFours) {
    EstimateBlock<kPairs, kFours>(q, k_u8 + j * 4, d_padded, scores + first * stride + j, stride);
  }
}

// The last pairs, at most kPairs: there is one compiled tile for every count.
template <int kPairs>
void EstimateLastPairs(const QueryRows& rows, int first, const uint8_t* k_u8, int d_padded, int32_t* scores,
                       ptrdiff_t stride) {
  if constexpr (kPairs > 0) {
    if ((rows.rows - first) / 2 == kPairs) {
      return EstimatePairs<kPairs>(rows, first, k_u8, d_padded, scores, stride);
    }
    EstimateLastPairs<kPairs - 1>(rows, first, k_u8, d_padded, scores, stride);
  }
}

}  // namespace

void EstimateNeonI8mm(const QueryRows& rows, const uint8_t* k_u8, int d_padded, int32_t* scores, ptrdiff_t stride) {
  int r = 0;
  for (; r + 2 * kMaxPairs <= rows.rows; r += 2 * kMaxPairs) {
    EstimatePairs<kMaxPairs>(rows, r, k_u8, d_padded, scores, stride);
  }
  EstimateLastPairs<kMaxPairs - 1>(rows, r, k_u8, d_padded, scores, stride);
  if (rows.rows % 2 != 0) {
    const int last = rows.rows - 1;
    EstimateNeonDot({Row(rows, last, d_padded), nullptr, 1}, k_u8, d_padded, scores + last * stride, stride);
  }
}

// smmla takes signed operands, so queries in [0, 127] gain nothing.
void EstimatePositiveNeonI8mm(const QueryRows& rows, const uint8_t* k_u8, int d_padded, int32_t* scores,
                              ptrdiff_t stride) {
  EstimateNeonI8mm(rows, k_u8, d_padded, scores, stride);
}

}  // namespace shadow
