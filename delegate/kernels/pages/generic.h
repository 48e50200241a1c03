// The kernels of block skipping over a float vector type F and an int32 vector type I with the same number of lanes
// (kernels/simd/). Only ISA files include this.
#ifndef SHADOWATTN_DELEGATE_KERNELS_PAGES_GENERIC_H_
#define SHADOWATTN_DELEGATE_KERNELS_PAGES_GENERIC_H_

#include <cstdint>

#include "kernels/pages/kernels.h"

namespace shadow {

template <class I>
int32_t LargestBound(const int32_t* bounds, int64_t n) {
  constexpr int kStep = 16, kVecs = kStep / I::kLanes;
  if (n < kStep) {
    int32_t largest = bounds[0];
    for (int64_t i = 1; i < n; ++i) largest = bounds[i] > largest ? bounds[i] : largest;
    return largest;
  }
  typename I::V largest[kVecs];
#pragma GCC unroll 4
  for (int j = 0; j < kVecs; ++j) largest[j] = I::Load(bounds + j * I::kLanes);
  for (int64_t i = kStep; i < n; i += kStep) {
    const int32_t* at = bounds + (i <= n - kStep ? i : n - kStep);  // the last step may load some bounds again
#pragma GCC unroll 4
    for (int j = 0; j < kVecs; ++j) largest[j] = I::Max(largest[j], I::Load(at + j * I::kLanes));
  }
#pragma GCC unroll 4
  for (int j = 1; j < kVecs; ++j) largest[0] = I::Max(largest[0], largest[j]);
  return I::MaxLanes(largest[0]);
}

template <class I>
void BitsBelow(const int32_t* bounds, int32_t cut, int64_t words, uint64_t* bits) {
  for (int64_t word = 0; word < words; ++word) bits[word] = I::MaskLess64(bounds + word * 64, cut);
}

// Each cut has a lane of its own, so the pages of a cut are added one by one whatever the vector width.
template <class F, class I>
void SumBelow(const BelowCuts& job, float* below) {
  constexpr int kVecs = kCuts / I::kLanes;
  typename I::V cuts[kVecs];
  typename F::V sums[kVecs];
#pragma GCC unroll 4
  for (int j = 0; j < kVecs; ++j) {
    cuts[j] = I::Load(job.cuts + j * I::kLanes);
    sums[j] = F::Set(0);
  }
  for (int64_t page = job.first; page < job.last; ++page) {
    const typename I::V bound = I::Set(job.bounds[page]);
    const typename F::V sum = F::Set(job.sums[page * job.stride]);
#pragma GCC unroll 4
    for (int j = 0; j < kVecs; ++j) sums[j] = I::AddWhereLess(sums[j], bound, cuts[j], sum);
  }
#pragma GCC unroll 4
  for (int j = 0; j < kVecs; ++j) F::Store(below + j * F::kLanes, sums[j]);
}

template <class I>
int ListBits(uint64_t set, int32_t* places) {
  if constexpr (I::kExpands) return I::Expand(set, places);
  int count = 0;
  for (; set != 0; set &= set - 1) places[count++] = __builtin_ctzll(set);
  return count;
}

// Defines the kernels of one ISA.
#define SHADOW_DEFINE_PAGES(name, F, I)                                                               \
  int32_t LargestBound##name(const int32_t* bounds, int64_t n) { return LargestBound<I>(bounds, n); } \
  void BitsBelow##name(const int32_t* bounds, int32_t cut, int64_t words, uint64_t* bits) {           \
    BitsBelow<I>(bounds, cut, words, bits);                                                           \
  }                                                                                                   \
  void SumBelow##name(const BelowCuts& job, float* below) { SumBelow<F, I>(job, below); }             \
  int ListBits##name(uint64_t set, int32_t* places) { return ListBits<I>(set, places); }

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_PAGES_GENERIC_H_
