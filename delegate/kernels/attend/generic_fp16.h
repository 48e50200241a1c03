// Values of selected positions where a machine calculates with halves, over a float vector type F that has them
// (kernels/simd/). Only ISA files include this.
//
// Converting values to float32 takes twice as long as adding them up. Where the weights are rough anyhow, the values of
// a few positions are added up in halves, and only their sums are converted.
#ifndef SHADOWATTN_DELEGATE_KERNELS_ATTEND_GENERIC_FP16_H_
#define SHADOWATTN_DELEGATE_KERNELS_ATTEND_GENERIC_FP16_H_

#include <cstdint>
#include <cstring>

#include "kernels/attend/stored_rows.h"

namespace shadow {

constexpr int kFp16Group = 8;     // positions that are added up in halves
constexpr int kPairsAtOnce = 64;  // weights that are converted at a time

// sum += what `count` positions add up to in halves. Two accumulators take turns.
template <class F, int kVecs, int kCount>
void AddGroup(const KvView& kv, const int32_t* positions, const uint32_t* weights, int c, typename F::V* sum) {
  typename F::Fp16Vectors part[2][kVecs];
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) {
    const typename F::Fp16Vectors weight = F::SetPair(weights[i]);
    const uint16_t* v = StoredRow<uint16_t>(kv, false, positions[i]) + c;
#pragma GCC unroll 8
    for (int j = 0; j < kVecs; ++j) {
      typename F::Fp16Vectors* to = part[i % 2] + j;
      const typename F::Fp16Vectors values = F::LoadFp16(v + j * F::kFp16Lanes);
      *to = i < 2 ? F::MulFp16(weight, values) : F::FuseFp16(weight, values, *to);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < kVecs; ++j) {
    const typename F::Fp16Vectors both = kCount == 1 ? part[0][j] : F::AddFp16Vectors(part[0][j], part[1][j]);
    sum[2 * j] = F::Add(sum[2 * j], F::Low(both));
    sum[2 * j + 1] = F::Add(sum[2 * j + 1], F::High(both));
  }
}

// sum [2 * kVecs] += weights * power . values, for kVecs vectors of halves from channel c on.
template <class F, int kVecs>
void AddFp16Block(const SelectedValues& values, const KvView& kv, float power, int c, typename F::V* sum) {
  uint32_t pairs[kPairsAtOnce];
  for (int begin = 0; begin < values.k; begin += kPairsAtOnce) {
    const int left = values.k - begin, count = left < kPairsAtOnce ? left : kPairsAtOnce;
    for (int i = 0; i < count; i += F::kLanes) {
      F::StorePairs(pairs + i, F::Mul(F::Load(values.weights + begin + i), F::Set(power)));
    }
    const int32_t* positions = values.positions + begin;
    int i = 0;
    for (; i + kFp16Group <= count; i += kFp16Group) {
      AddGroup<F, kVecs, kFp16Group>(kv, positions + i, pairs + i, c, sum);
    }
    if (i + 4 <= count) {
      AddGroup<F, kVecs, 4>(kv, positions + i, pairs + i, c, sum);
      i += 4;
    }
    for (; i < count; ++i) AddGroup<F, kVecs, 1>(kv, positions + i, pairs + i, c, sum);
  }
}

// The largest power of two that is not above x, within what has a reciprocal.
static inline float PowerBelow(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  const uint32_t exponent = bits >> 23 & 255;
  bits = (exponent < 1 ? 1 : exponent > 253 ? 253 : exponent) << 23;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

// Channels from c on: as many blocks of kVecs vectors of halves as fit, then smaller ones; returns the first that is
// left.
template <class F, int kVecs>
int AddFp16From(const SelectedValues& values, const KvView& kv, float power, int c, float* sum) {
  const typename F::V back = F::Set(1.0f / power);  // exact, as power is one of two
  for (; c + kVecs * F::kFp16Lanes <= PaddedFloats(kv.head_dim); c += kVecs * F::kFp16Lanes) {
    typename F::V allow_fp16[2 * kVecs];
#pragma GCC unroll 16
    for (int j = 0; j < 2 * kVecs; ++j) allow_fp16[j] = F::Set(0);
    AddFp16Block<F, kVecs>(values, kv, power, c, allow_fp16);
#pragma GCC unroll 16
    for (int j = 0; j < 2 * kVecs; ++j) {
      float* to = sum + c + j * F::kLanes;
      F::Store(to, F::MulAdd(allow_fp16[j], back, F::Load(to)));
    }
  }
  if constexpr (kVecs > 1) return AddFp16From<F, kVecs / 2>(values, kv, power, c, sum);
  return c;
}

// sum += weights . values, in units in which the weights fit into halves: their sum times `factor` is about one.
template <class F>
int AddFp16(const SelectedValues& values, const KvView& kv, float factor, float* sum) {
  return AddFp16From<F, F::kFp16Vecs>(values, kv, PowerBelow(factor), 0, sum);
}

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_ATTEND_GENERIC_FP16_H_
