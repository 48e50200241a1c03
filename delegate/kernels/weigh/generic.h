// Weigh and choose over a float vector type F (kernels/simd/). Only ISA files include this.
//
// Sums run in 16 lanes whatever F's width is: lane i adds the elements i, i + 16, i + 32, ... and the lanes are added
// pairwise at the end. So every ISA rounds alike.
#ifndef SHADOWATTN_DELEGATE_KERNELS_WEIGH_GENERIC_H_
#define SHADOWATTN_DELEGATE_KERNELS_WEIGH_GENERIC_H_

#include <cstdint>

#include "kernels/layout.h"
#include "kernels/weigh/kernels.h"

namespace shadow {

constexpr int kSumLanes = 16;

template <class F>
struct Sum {
  static constexpr int kVecs = kSumLanes / F::kLanes;
  typename F::V lanes[kVecs];

  Sum() {
    for (int i = 0; i < kVecs; ++i) lanes[i] = F::Set(0);
  }
  float Total() const {
    typename F::V half[kVecs];
#pragma GCC unroll 4
    for (int i = 0; i < kVecs; ++i) half[i] = lanes[i];
#pragma GCC unroll 2
    for (int n = kVecs / 2; n > 0; n /= 2) {
#pragma GCC unroll 2
      for (int i = 0; i < n; ++i) half[i] = F::Add(half[i], half[i + n]);
    }
    return F::SumLanes(half[0]);
  }
};

// 2^x for x <= 0, given 2^23 * (x + 127) = t: within 7e-4 of its value, continuous, zero below 2^-125. The integer t is
// the bits of 2^n (1 + f), where n + f = x; a cubic of u = 1 + f turns that into 2^n 2^f (Schraudolph 1999, corrected).
// INT8 scores are known to within a percent at best, so more terms would buy nothing. Fused on every ISA, so the same
// bits on each.
template <class F>
typename F::V Exp2(typename F::V t) {
  using V = typename F::V;
  const V linear = F::FromBits(t), u = F::Significand(linear);
  V p = F::Set(-1.0644569e-1f);  // minimax of 2^(u - 1) / u on [1, 2], the same at both ends
  p = F::Fused(p, u, F::Set(7.0747577e-1f));
  p = F::Fused(p, u, F::Set(-1.3773075f));
  p = F::Fused(p, u, F::Set(1.7756147f));
  return F::Mul(linear, p);
}

// The largest of n scores.
template <class S>
S Largest(const S* scores, int n) {
  S largest = scores[0];
  for (int j = 0; j < n; ++j) largest = scores[j] > largest ? scores[j] : largest;
  return largest;
}

// 16 weights: stored, and returned in lanes.
template <class F, class S>
void WeighBlock(const S* scores, S largest, typename F::V factor, float* weights, Sum<F>* sum) {
#pragma GCC unroll 4
  for (int i = 0; i < Sum<F>::kVecs; ++i) {
    const typename F::V weight =
        Exp2<F>(F::Fused(F::LoadBelow(scores + i * F::kLanes, largest), factor, F::Set(127 * 8388608.0f)));
    sum->lanes[i] = F::Add(sum->lanes[i], weight);
    F::Store(weights + i * F::kLanes, weight);
  }
}

template <class F, class S>
float Weigh(const S* scores, int n, int skip, float scale, float* weights) {
  const S largest = Largest(scores, n);
  const float steps = scale * (1.44269504f * 8388608.0f);
  const typename F::V factor = F::Set(steps < 1e30f ? steps : 1e30f);  // of scores that differ, only the largest count
  const int whole = n / kSumLanes * kSumLanes;
  // Whole blocks before the first that counts in full, then those, then what is left of the row.
  const int rounded = (skip + kSumLanes - 1) / kSumLanes * kSumLanes, counted = rounded < whole ? rounded : whole;
  Sum<F> ignored, sum;
  for (int j = 0; j < counted; j += kSumLanes) WeighBlock<F>(scores + j, largest, factor, weights + j, &ignored);
  for (int j = counted; j < whole; j += kSumLanes) WeighBlock<F>(scores + j, largest, factor, weights + j, &sum);
  if (whole < n) {
    S last[kSumLanes];
    for (int i = 0; i < kSumLanes; ++i) last[i] = i < n - whole ? scores[whole + i] : largest;
    WeighBlock<F>(last, largest, factor, weights + whole, &ignored);
  }
  for (int j = n; j % kPageRows != 0; ++j) weights[j] = 0;
  float total = sum.Total();
  for (int j = skip; j < counted; ++j) total += weights[j];
  for (int j = skip > whole ? skip : whole; j < n; ++j) total += weights[j];
  return total;
}

// What the `count` kept positions of a page that begins at `begin` take over; returns what each of its positions does.
template <class F>
float SpreadRest(const ChooseRow& row, int begin, float rest, int count, float* shares) {
  const int forced = row.keep_below - begin, without = forced < 0 ? 0 : forced < count ? forced : count;
  const int positions = row.n - begin < kPageRows ? row.n - begin : kPageRows;
  const float size = static_cast<float>(positions);
  if (without == count) {
    for (int i = 0; i < count; ++i) shares[i] = 0;
    return rest / size;
  }
  const float share = rest * kKeptShare / static_cast<float>(count - without);
  for (int i = 0; i < count; i += F::kLanes) F::Store(shares + i, F::Set(share));
  for (int i = 0; i < without; ++i) shares[i] = 0;
  return rest * (1 - kKeptShare) / size;
}

// One page of which nothing is kept but what reaches the threshold: as ChoosePage.
template <class F>
int ChooseFreePage(const ChooseRow& row, int page, int found) {
  using V = typename F::V;
  constexpr int kVecs = kPageRows / F::kLanes;
  const float* weights = row.weights + page * kPageRows;
  const V threshold = F::Set(row.threshold);
  uint64_t mask = 0;
#pragma GCC unroll 16
  for (int i = 0; i < kVecs; ++i) {
    mask |= uint64_t{F::MaskGreaterEqual(F::Load(weights + i * F::kLanes), threshold)} << (i * F::kLanes);
  }
  Sum<F> rest;
  if (mask == 0) {
#pragma GCC unroll 16
    for (int i = 0; i < kVecs; ++i) {
      V* lanes = rest.lanes + i % Sum<F>::kVecs;
      *lanes = F::Add(*lanes, F::Load(weights + i * F::kLanes));
    }
    row.rest[page] = rest.Total() / static_cast<float>(kPageRows);
    return 0;
  }
  constexpr uint32_t kAll = (uint32_t{1} << F::kLanes) - 1;
  int count = 0;
#pragma GCC unroll 16
  for (int i = 0; i < kVecs; ++i) {
    const V w = F::Load(weights + i * F::kLanes);
    const uint32_t own = static_cast<uint32_t>(mask >> (i * F::kLanes)) & kAll;
    V* lanes = rest.lanes + i % Sum<F>::kVecs;
    *lanes = F::Add(*lanes, F::ZeroWhere(own, w));
    const int first = page * kPageRows + i * F::kLanes;
    count += F::Compress(own, w, first, row.positions + found + count, row.kept + found + count);
  }
  row.rest[page] = SpreadRest<F>(row, page * kPageRows, rest.Total(), count, row.shares + found);
  return count;
}

// One page: appends what is kept to positions, kept and shares from `found` on, returns how many.
template <class F>
int ChoosePage(const ChooseRow& row, int page, int found) {
  using V = typename F::V;
  const int begin = page * kPageRows;
  const V threshold = F::Set(row.threshold);
  int32_t* positions = row.positions + found;
  float* kept = row.kept + found;
  Sum<F> rest;
  int count = 0;
  for (int j = begin; j < begin + kPageRows; j += kSumLanes) {
#pragma GCC unroll 4
    for (int i = 0; i < Sum<F>::kVecs; ++i) {
      const int first = j + i * F::kLanes;
      if (first >= row.n) break;
      const V w = F::Load(row.weights + first);
      uint32_t mask = F::MaskGreaterEqual(w, threshold);
      constexpr uint32_t kAll = (uint32_t{1} << F::kLanes) - 1;
      if (first < row.keep_below) {
        const int forced = row.keep_below - first;
        mask |= forced >= F::kLanes ? kAll : (uint32_t{1} << forced) - 1;
      }
      if (first + F::kLanes > row.keep_from) {
        const int free = row.keep_from - first;
        mask |= free <= 0 ? kAll : kAll & ~((uint32_t{1} << free) - 1);
      }
      if (first + F::kLanes > row.n) mask &= (uint32_t{1} << (row.n - first)) - 1;
      rest.lanes[i] = F::Add(rest.lanes[i], F::ZeroWhere(mask, w));
      if (mask != 0) count += F::Compress(mask, w, first, positions + count, kept + count);
    }
  }
  row.rest[page] = SpreadRest<F>(row, begin, rest.Total(), count, row.shares + found);
  return count;
}

template <class F>
int Choose(const ChooseRow& row) {
  int count = 0;
  for (int page = 0; page * kPageRows < row.n; ++page) {
    const bool free = row.keep_below <= page * kPageRows && row.keep_from >= (page + 1) * kPageRows;
    count += free ? ChooseFreePage<F>(row, page, count) : ChoosePage<F>(row, page, count);
  }
  return count;
}

// Defines the kernels of one ISA.
#define SHADOW_DEFINE_WEIGH(name, F)                                                            \
  float WeighInt32##name(const int32_t* scores, int n, int skip, float scale, float* weights) { \
    return Weigh<F>(scores, n, skip, scale, weights);                                           \
  }                                                                                             \
  float WeighInt8##name(const int8_t* scores, int n, int skip, float scale, float* weights) {   \
    return Weigh<F>(scores, n, skip, scale, weights);                                           \
  }                                                                                             \
  int Choose##name(const ChooseRow& row) { return Choose<F>(row); }

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_WEIGH_GENERIC_H_
