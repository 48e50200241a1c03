// Values of selected positions on machines with FP16 arithmetic, over a float vector type F that has it
// (kernels/simd/). Only ISA files include this.
//
// Converting values to float32 takes twice as long as summing them. Where the weights are approximate anyway, the
// values of a few positions are summed in FP16 and only the sums are converted.
#ifndef SHADOWATTN_DELEGATE_KERNELS_ATTEND_GENERIC_FP16_H_
#define SHADOWATTN_DELEGATE_KERNELS_ATTEND_GENERIC_FP16_H_

#include <cstdint>
#include <cstring>

#include "kernels/attend/stored_rows.h"

namespace shadow {

constexpr int kFp16Group = 8;     // positions whose values are summed in FP16
constexpr int kPairsAtOnce = 64;  // weights that are converted at a time

// sum += weights . values of kCount positions, summed in FP16 with two alternating accumulators.
template <class F, int kVecs, int kCount>
void AddGroup(const KvView& kv, const int32_t* positions, const uint32_t* weights, int c, typename F::V* sum) {
  typename F::Fp16V part[2][kVecs];
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) {
    const typename F::Fp16V weight = F::SetPair(weights[i]);
    const uint16_t* v = StoredRow<uint16_t>(kv, false, positions[i]) + c;
#pragma GCC unroll 8
    for (int j = 0; j < kVecs; ++j) {
      typename F::Fp16V* to = part[i % 2] + j;
      const typename F::Fp16V values = F::LoadFp16(v + j * F::kFp16Lanes);
      *to = i < 2 ? F::MulFp16(weight, values) : F::MulAddFp16(weight, values, *to);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < kVecs; ++j) {
    const typename F::Fp16V both = kCount == 1 ? part[0][j] : F::AddFp16(part[0][j], part[1][j]);
    sum[2 * j] = F::Add(sum[2 * j], F::Low(both));
    sum[2 * j + 1] = F::Add(sum[2 * j + 1], F::High(both));
  }
}

// sum [2 * kVecs] += weights * power . values, for kVecs FP16 vectors from channel c on.
template <class F, int kVecs>
void AddValuesFp16Block(const SelectedValues& values, const KvView& kv, float power, int c, typename F::V* sum) {
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

// The largest power of two that is not above x, among those with a normal reciprocal.
static inline float PowerBelow(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  const uint32_t exponent = bits >> 23 & 255;
  bits = (exponent < 1 ? 1 : exponent > 253 ? 253 : exponent) << 23;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

// Channels from c on: blocks of kVecs FP16 vectors as long as they fit, then smaller blocks. Returns the first channel
// that is left.
template <class F, int kVecs>
int AddValuesFp16From(const SelectedValues& values, const KvView& kv, float power, int c, float* sum) {
  const typename F::V back = F::Set(1.0f / power);  // exact, because power is a power of two
  for (; c + kVecs * F::kFp16Lanes <= PaddedFloats(kv.head_dim); c += kVecs * F::kFp16Lanes) {
    typename F::V scaled[2 * kVecs];
#pragma GCC unroll 16
    for (int j = 0; j < 2 * kVecs; ++j) scaled[j] = F::Set(0);
    AddValuesFp16Block<F, kVecs>(values, kv, power, c, scaled);
#pragma GCC unroll 16
    for (int j = 0; j < 2 * kVecs; ++j) {
      float* to = sum + c + j * F::kLanes;
      F::Store(to, F::MulAdd(scaled[j], back, F::Load(to)));
    }
  }
  if constexpr (kVecs > 1) return AddValuesFp16From<F, kVecs / 2>(values, kv, power, c, sum);
  return c;
}

// sum += weights . values, scaled meanwhile so that FP16 can hold the weights: their sum times `factor` is about 1.
template <class F>
int AddValuesFp16(const SelectedValues& values, const KvView& kv, float factor, float* sum) {
  return AddValuesFp16From<F, F::kFp16Vecs>(values, kv, PowerBelow(factor), 0, sum);
}

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_ATTEND_GENERIC_FP16_H_
