// Exact top-k of int8 scores over the vector of one ISA. Only ISA files include this; each defines a type B:
//
//   uint64_t Greater(p, t)            bit i: p[i] > t, for 64 scores
//   int CountGreater(p, n, t)         how many of n scores (a multiple of 64) are > t
//   int32_t* Expand(mask, first, p)   first + i for every bit i of mask, to p; may write 16 past the end; the new end
//
// Scores have 256 levels, so a binary search finds the threshold with eight counts.
#ifndef SHADOWATTN_DELEGATE_KERNELS_SELECT_GENERIC_INT8_H_
#define SHADOWATTN_DELEGATE_KERNELS_SELECT_GENERIC_INT8_H_

#include <cstdint>
#include <cstring>

#include "kernels/select/kernels.h"

namespace shadow {

constexpr int kBlock = 64;

// Scores in blocks of 64; the last, incomplete block is a copy.
template <class B>
struct Int8Row {
  const int8_t* scores;
  int n;
  int whole;  // scores in complete blocks
  uint64_t last_valid;
  int8_t last[kBlock];

  Int8Row(const int8_t* p, int count) : scores(p), n(count), whole(count / kBlock * kBlock) {
    last_valid = (uint64_t{1} << (n - whole)) - 1;
    std::memset(last, 0, sizeof(last));
    std::memcpy(last, scores + whole, static_cast<size_t>(n - whole));
  }

  uint64_t Greater(int i, int t) const {
    if (t < INT8_MIN) return i < whole ? ~uint64_t{0} : last_valid;
    return i < whole ? B::Greater(scores + i, static_cast<int8_t>(t))
                     : B::Greater(last, static_cast<int8_t>(t)) & last_valid;
  }
  int CountGreater(int t) const {
    return B::CountGreater(scores, whole, static_cast<int8_t>(t)) + __builtin_popcountll(Greater(whole, t));
  }
};

struct Threshold {
  int value;  // the k-th best score
  int above;  // how many are better
  int equal;
};

template <class B>
Threshold FindThreshold(const Int8Row<B>& row, int k) {
  int value = INT8_MIN;  // invariant: `reached` scores are >= value, and reached >= k
  int reached = row.n, above = 0;
  for (int step = 128; step > 0; step /= 2) {
    const int count = row.CountGreater(value + step - 1);
    if (count >= k) {
      value += step;
      reached = count;
    } else {
      above = count;  // the smallest value that failed is value + 1 in the end
    }
  }
  return {value, above, reached - above};
}

// The last position from which on `wanted` scores equal the threshold.
template <class B>
int FindCutoff(const Int8Row<B>& row, int threshold, int wanted) {
  int i = row.whole;
  for (;; i -= kBlock) {
    const int count = __builtin_popcountll(row.Greater(i, threshold - 1) & ~row.Greater(i, threshold));
    if (count >= wanted) break;
    wanted -= count;
  }
  i = i + kBlock < row.n ? i + kBlock : row.n;
  while (wanted > 0) wanted -= row.scores[--i] == threshold;
  return i;
}

template <class B>
void SelectInt8(const int8_t* scores, int n, int k, int32_t offset, int32_t* out) {
  if (k <= 0) return;
  const Int8Row<B> row(scores, n);
  const Threshold t = FindThreshold(row, k);
  const int wanted = k - t.above;
  const int cutoff = wanted == t.equal ? 0 : FindCutoff(row, t.value, wanted);
  for (int i = 0; i < n; i += kBlock) {
    uint64_t mask = row.Greater(i, i < cutoff ? t.value : t.value - 1);
    if (i < cutoff && i + kBlock > cutoff) mask |= row.Greater(i, t.value - 1) & ~uint64_t{0} << (cutoff - i);
    out = B::Expand(mask, offset + i, out);
  }
}

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_SELECT_GENERIC_INT8_H_
