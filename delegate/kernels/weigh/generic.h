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

// One page of a row: 16 weights at a time, the sums in lanes.
template <class F, class S>
float WeighRow(const S* scores, S reference, float factor, float* weights) {
  using V = typename F::V;
  Sum<F> sum;
#pragma GCC unroll 16
  for (int i = 0; i < kPageRows; i += F::kLanes) {
    const V t = F::Fused(F::LoadBelow(scores + i, reference), F::Set(factor), F::Set(127 * 8388608.0f));
    const V weight = Exp2<F>(F::Min(t, F::Set(254 * 8388608.0f)));
    F::Store(weights + i, weight);
    V* lanes = sum.lanes + i / F::kLanes % Sum<F>::kVecs;
    *lanes = F::Add(*lanes, weight);
  }
  return sum.Total();
}

// The same sum without the first `skip` weights, and nothing from `seen` on.
template <class F>
float TrimRow(float* weights, int seen, int skip) {
  alignas(64) float counted[kPageRows];
  for (int j = seen; j < kPageRows; ++j) weights[j] = 0;
  for (int j = 0; j < kPageRows; ++j) counted[j] = j < skip ? 0 : weights[j];
  Sum<F> sum;
  for (int i = 0; i < kPageRows; i += F::kLanes) {
    typename F::V* lanes = sum.lanes + i / F::kLanes % Sum<F>::kVecs;
    *lanes = F::Add(*lanes, F::Load(counted + i));
  }
  return sum.Total();
}

template <class F, class S>
void Weigh(const WeighJob<S>& job) {
  for (int i = 0; i < job.rows; ++i) {
    const int64_t r = job.at == nullptr ? i : job.at[i];
    float* weights = job.weights + r * job.stride;
    float sum = WeighRow<F>(job.scores + i * kPageRows, job.reference[r], job.factor[r], weights);
    if (job.skip > 0 || job.seen != nullptr) {
      sum = TrimRow<F>(weights, job.seen == nullptr ? kPageRows : job.seen[r], job.skip);
    }
    job.sums[r * job.sum_stride] = sum;
    job.mass[r] += sum;
  }
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

// Bit j: whether position j of a page reaches the threshold.
template <class F>
uint64_t PageMask(const float* weights, typename F::V threshold) {
  uint64_t mask = 0;
#pragma GCC unroll 16
  for (int i = 0; i < kPageRows; i += F::kLanes) {
    mask |= uint64_t{F::MaskGreaterEqual(F::Load(weights + i), threshold)} << i;
  }
  return mask;
}

// The sum of a page's weights without those of the mask.
template <class F>
float SumWithout(const float* weights, uint64_t mask) {
  constexpr uint32_t kAll = (uint32_t{1} << F::kLanes) - 1;
  Sum<F> rest;
#pragma GCC unroll 16
  for (int i = 0; i < kPageRows; i += F::kLanes) {
    typename F::V* lanes = rest.lanes + i / F::kLanes % Sum<F>::kVecs;
    *lanes = F::Add(*lanes, F::ZeroWhere(static_cast<uint32_t>(mask >> i) & kAll, F::Load(weights + i)));
  }
  return rest.Total();
}

// Appends the positions of a page's mask, which is not zero. Four at a time without asking whether there are as many:
// mostly there are fewer, and a wrong guess costs more than three idle steps.
static inline int AppendMasked(const ChooseRow& row, int page, uint64_t mask, int found) {
  const float* weights = row.weights + page * kPageRows;
  int count = 0;
  for (uint64_t left = mask; left != 0; count += 4) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const int j = __builtin_ctzll(left | uint64_t{1} << 63);
      row.positions[found + count + i] = page * kPageRows + j;
      row.kept[found + count + i] = weights[j];
      left &= left - 1;
    }
  }
  return __builtin_popcountll(mask);
}

// Pages [begin, end), of which nothing is kept but what reaches the threshold: appends as ChoosePage does. First all
// masks, then the pages that have something: whether one has cannot be guessed.
template <class F>
int ChooseFreePages(const ChooseRow& row, int begin, int end, int found) {
  const typename F::V threshold = F::Set(row.threshold);
  const int before = found;
  for (int page = begin; page < end; ++page) row.rest[page] = 0;
  for (int word = begin / 64; word * 64 < end; ++word) {
    uint64_t scored = row.scored == nullptr ? ~uint64_t{0} : row.scored[word];
    if (begin > word * 64) scored &= ~uint64_t{0} << (begin - word * 64);
    if (end < (word + 1) * 64) scored &= (uint64_t{1} << (end - word * 64)) - 1;
    uint64_t masks[64 + 1];
    int pages[64 + 1], hits = 0;
    for (; scored != 0; scored &= scored - 1) {
      const int page = word * 64 + __builtin_ctzll(scored);
      masks[hits] = PageMask<F>(row.weights + page * kPageRows, threshold);
      pages[hits] = page;
      hits += masks[hits] != 0 ? 1 : 0;
      row.rest[page] = row.sums[page] / static_cast<float>(kPageRows);
    }
    for (int i = 0; i < hits; ++i) {
      const float rest = SumWithout<F>(row.weights + pages[i] * kPageRows, masks[i]);
      const int count = AppendMasked(row, pages[i], masks[i], found);
      row.rest[pages[i]] = SpreadRest<F>(row, pages[i] * kPageRows, rest, count, row.shares + found);
      found += count;
    }
  }
  return found - before;
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
  const int pages = (row.n + kPageRows - 1) / kPageRows, free_end = row.keep_from / kPageRows;
  int count = 0, page = 0;
  for (; page < pages && page * kPageRows < row.keep_below; ++page) count += ChoosePage<F>(row, page, count);
  if (page < free_end) {
    count += ChooseFreePages<F>(row, page, free_end, count);
    page = free_end;
  }
  for (; page < pages; ++page) count += ChoosePage<F>(row, page, count);
  return count;
}

// Defines the kernels of one ISA.
#define SHADOW_DEFINE_WEIGH(name, F)                                              \
  void WeighInt32##name(const WeighJob<int32_t>& job) { Weigh<F, int32_t>(job); } \
  void WeighInt8##name(const WeighJob<int8_t>& job) { Weigh<F, int8_t>(job); }    \
  int Choose##name(const ChooseRow& row) { return Choose<F>(row); }

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_WEIGH_GENERIC_H_
