// Exact top-k of int32 scores over the vector of one ISA. Only ISA files include this; each defines a type I:
//
//   I::kLanes, I::V, I::M (mask)         V Load(p), Set(a), Iota()           void Store(p, v)
//   M Greater(a, b), GreaterEqual(a, b)  M Equal(a, b)                       M AndNot(a, b): a and not b
//   int Count(m)                         V CountIf(v, m): v + 1 where m      int32_t SumLanes(v)
//   V MinWhere(v, m, w): min(v, w) where m, else v                           int32_t MinLanes(v)
//   V Add(a, b)                          int Compress(p, m, v): stores the lanes in m (a whole vector), returns how
//   many
//
// The threshold is the k-th best score. A bracket [low, high] of values that holds it becomes narrower pass by pass:
// two pivots come from a strided sample, later from interpolation; a pass counts the scores above the pivots and
// compresses those between them, and the next pass works on these. If the threshold lies outside the pivots, the side
// where it lies is compressed from the scores again. After two passes in a row that leave more than half of the values,
// the next one bisects their range, so no input needs more than some dozens of passes. A last pass compacts the
// indices.
#ifndef SHADOWATTN_DELEGATE_KERNELS_SELECT_GENERIC_INT32_H_
#define SHADOWATTN_DELEGATE_KERNELS_SELECT_GENERIC_INT32_H_

#include <cstdint>
#include <cstring>

#include "kernels/select/kernels.h"

namespace shadow {

// All scores within [low, high], the threshold among them; `above` scores are larger than high.
struct Bracket {
  const int32_t* values;
  int count;
  int above;
  int32_t low, high;
};

static inline bool IsBounded(const Bracket& b) { return b.low > INT32_MIN && b.high < INT32_MAX; }

struct Range {
  int32_t low, high;
};

constexpr int kSample = 64;
constexpr int kSmall = 32;           // up to this many values are ranked by comparing all pairs
constexpr float kDeviations = 2.2f;  // distance of the pivots from the expected threshold, in standard deviations

// Copies the values of `from` that lie within the range to `to` (which may be `from`) and returns how many.
template <class I>
int Extract(const int32_t* from, int n, Range range, int32_t* to, int* above) {
  const typename I::V low = I::Set(range.low), high = I::Set(range.high);
  typename I::V above_lanes = I::Set(0);
  int count = 0, i = 0;
  for (; i + I::kLanes <= n; i += I::kLanes) {
    const typename I::V v = I::Load(from + i);
    const typename I::M is_above = I::Greater(v, high);
    above_lanes = I::CountIf(above_lanes, is_above);
    count += I::Compress(to + count, I::AndNot(I::GreaterEqual(v, low), is_above), v);
  }
  *above = I::SumLanes(above_lanes);
  for (; i < n; ++i) {
    const int32_t v = from[i];
    *above += v > range.high;
    to[count] = v;
    count += v >= range.low && v <= range.high;
  }
  return count;
}

// The values of ranks a and b (rank 0 is the largest) among n <= kSample values, padded with INT32_MIN to whole
// vectors: the value of a rank is the smallest one that at most `rank` others exceed. Range.low belongs to a, high to
// b.
template <class I>
Range OrderStatistics(const int32_t* values, int n, int a, int b) {
  const typename I::V rank_a = I::Set(a), rank_b = I::Set(b);
  typename I::V low = I::Set(INT32_MAX), high = low;
  for (int i = 0; i < n; i += I::kLanes) {
    const typename I::V v = I::Load(values + i);
    typename I::V larger = I::Set(0);
    for (int j = 0; j < n; ++j) larger = I::CountIf(larger, I::Greater(I::Set(values[j]), v));
    low = I::MinWhere(low, I::GreaterEqual(rank_a, larger), v);
    high = I::MinWhere(high, I::GreaterEqual(rank_b, larger), v);
  }
  return {I::MinLanes(low), I::MinLanes(high)};
}

// By how many ranks the value of `rank` among `count` values may lie elsewhere than expected among `size` of them.
static inline float RankMargin(float size, float rank, float count) {
  const float share = rank / count;
  return kDeviations * __builtin_sqrtf(size * share * (1.0f - share)) + 1.0f;
}

// Two pivots from a sample; the value of `rank` very likely lies between them.
template <class I>
Range SampleRange(const Bracket& b, int rank) {
  int32_t sample[kSample];
  const int size = b.count < 16 * kSample ? kSample / 2 : kSample;
  const int stride = b.count / size;
  for (int i = 0; i < size; ++i) sample[i] = b.values[i * stride + stride / 2];
  const float count = static_cast<float>(b.count), sampled = static_cast<float>(size);
  const float position = static_cast<float>(rank) / count * sampled;
  const float margin = RankMargin(sampled, static_cast<float>(rank), count);
  const int last = static_cast<int>(position + margin);
  Range r = OrderStatistics<I>(sample, size, last, static_cast<int>(position - margin));
  if (position < margin) r.high = b.high;
  if (last >= size) r.low = b.low;
  return r;
}

// The same by interpolation, for values that are spread almost evenly between low and high, as in a narrow bracket.
static inline Range InterpolatedRange(const Bracket& b, int rank) {
  const float count = static_cast<float>(b.count);
  const float bend = count / 16;  // allowance for "almost"
  const float margin = RankMargin(count, static_cast<float>(rank), count) + bend;
  const double step = (static_cast<double>(b.high) - b.low + 1) / b.count;
  const double low = b.high - step * (static_cast<double>(rank) + static_cast<double>(margin));
  const double high = b.high - step * (static_cast<double>(rank) - static_cast<double>(margin));
  return {low > b.low ? static_cast<int32_t>(low) : b.low, high < b.high ? static_cast<int32_t>(high) : b.high};
}

static inline Range UpperHalf(const Bracket& b) {
  const int64_t middle = (static_cast<int64_t>(b.low) + b.high) >> 1;
  return {static_cast<int32_t>(middle + 1), b.high};
}

// Shrinks the bracket to the range, or to the side of the range where the value of `rank` lies.
template <class I>
void Narrow(const int32_t* scores, int n, int rank, Range range, int32_t* scratch, Bracket* b) {
  int above;
  const int count = Extract<I>(b->values, b->count, range, scratch, &above);
  above += b->above;
  if (rank < above) {
    range = {range.high + 1, b->high};
  } else if (rank >= above + count) {
    range = {b->low, range.low - 1};
  } else {
    *b = {scratch, count, above, range.low, range.high};
    return;
  }
  const int left = Extract<I>(scores, n, range, scratch, &above);
  *b = {scratch, left, above, range.low, range.high};
}

// The bracket of one value, from at most kSmall values.
template <class I>
Bracket Finish(const Bracket& b, int rank) {
  int32_t values[kSmall];
  for (int i = 0; i < kSmall; ++i) values[i] = i < b.count ? b.values[i] : INT32_MIN;
  const int32_t threshold = OrderStatistics<I>(values, b.count, rank - b.above, rank - b.above).low;
  Bracket result{b.values, 0, b.above, threshold, threshold};
  for (int i = 0; i < b.count; ++i) {
    result.above += values[i] > threshold;
    result.count += values[i] == threshold;
  }
  return result;
}

template <class I>
Bracket FindThreshold(const int32_t* scores, int n, int rank, int32_t* scratch) {
  enum Method { kInterpolate, kSampleAgain, kHalve, kMethods };
  Bracket b{scores, n, 0, INT32_MIN, INT32_MAX};
  int method = kInterpolate;
  while (b.low < b.high) {
    if (b.count <= kSmall) return Finish<I>(b, rank);
    const int before = b.count, rank_inside = rank - b.above;
    const Range range = method == kHalve                         ? UpperHalf(b)
                        : method == kInterpolate && IsBounded(b) ? InterpolatedRange(b, rank_inside)
                                                                 : SampleRange<I>(b, rank_inside);
    Narrow<I>(scores, n, rank, range, scratch, &b);
    method = b.count > before / 2 ? (method + 1) % kMethods : kInterpolate;
  }
  return b;
}

// The last position from which on `wanted` scores equal the threshold.
template <class I>
int FindCutoff(const int32_t* scores, int n, int32_t threshold, int wanted) {
  const typename I::V t = I::Set(threshold);
  int i = n;
  for (; i >= I::kLanes; i -= I::kLanes) {
    const int count = I::Count(I::Equal(I::Load(scores + i - I::kLanes), t));
    if (count >= wanted) break;
    wanted -= count;
  }
  while (wanted > 0) wanted -= scores[--i] == threshold;
  return i;
}

// Writes offset + i for every i in [begin, end) whose score is above the threshold; kOrEqual: or equal to it.
template <class I, bool kOrEqual>
int32_t* Compact(const int32_t* scores, int begin, int end, int32_t threshold, int32_t offset, int32_t* out) {
  const typename I::V t = I::Set(threshold), step = I::Set(I::kLanes);
  typename I::V index = I::Add(I::Iota(), I::Set(offset + begin));
  int i = begin;
  for (; i + I::kLanes <= end; i += I::kLanes) {
    const typename I::V v = I::Load(scores + i);
    out += I::Compress(out, kOrEqual ? I::GreaterEqual(v, t) : I::Greater(v, t), index);
    index = I::Add(index, step);
  }
  for (; i < end; ++i) {
    *out = offset + i;
    out += kOrEqual ? scores[i] >= threshold : scores[i] > threshold;
  }
  return out;
}

template <class I>
void SelectInt32(const int32_t* scores, int n, int k, int32_t offset, int32_t* scratch, int32_t* out) {
  if (k <= 0) return;
  if (k >= n) {
    for (int i = 0; i < n; ++i) out[i] = offset + i;
    return;
  }
  const Bracket b = FindThreshold<I>(scores, n, k - 1, scratch);
  const int wanted = k - b.above;
  const int cutoff = wanted == b.count ? 0 : FindCutoff<I>(scores, n, b.low, wanted);
  out = Compact<I, false>(scores, 0, cutoff, b.low, offset, out);
  Compact<I, true>(scores, cutoff, n, b.low, offset, out);
}

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_SELECT_GENERIC_INT32_H_
