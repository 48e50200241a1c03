// Softmax weights and selection by threshold over a float vector type F (kernels/simd/). Only ISA files include this.
//
// A sum has 16 lanes whatever the width of F is: lane i adds the elements i, i + 16, i + 32, ..., and the lanes are
// added in one fixed order. So every ISA rounds identically.
#ifndef SHADOWATTN_DELEGATE_KERNELS_SOFTMAX_GENERIC_H_
#define SHADOWATTN_DELEGATE_KERNELS_SOFTMAX_GENERIC_H_

#include <cstdint>

#include "kernels/layout.h"
#include "kernels/softmax/kernels.h"

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
  void Store(float* to) const {
#pragma GCC unroll 4
    for (int i = 0; i < kVecs; ++i) F::Store(to + i * F::kLanes, lanes[i]);
  }
};

// 2^(x - 64), continuous, with a relative error of at most 2.7e-3: a quadratic of the fraction of x, scaled by the
// exponent from its floor. INT8 scores are known to within a percent at best, so more terms would gain nothing. The
// operations are fused on every ISA, so every ISA gives the same bits; only results below 2^-64 may differ in the last.
template <class F>
typename F::V Exp2(typename F::V x) {
  constexpr float kUnit = F::kScaleUnit;
  const typename F::V f = F::Fraction(x);
  const typename F::V p = F::Fused(F::Set(0.33335f * kUnit), f, F::Set(0.66591f * kUnit));
  return F::Scale(F::Fused(p, f, F::Set(0.99926f * kUnit)), x);
}

constexpr int kSumRows = 16;  // rows whose lanes are added together

template <class F, class S>
typename F::V Weights(const S* scores, const SoftmaxRow<S>& row) {
  return Exp2<F>(F::Fused(F::LoadBelow(scores, row.reference), F::Set(row.factor), F::Set(64)));
}

// Weights of one page of a row, and their sums in lanes; lane by lane, returns the largest weight.
template <class F, class S>
typename F::V PageWeights(const S* scores, const SoftmaxRow<S>& row, float* weights, float* lanes) {
  using V = typename F::V;
  Sum<F> sum;
  V largest = F::Set(0);
#pragma GCC unroll 16
  for (int i = 0; i < kPageRows; i += F::kLanes) {
    const V weight = Weights<F>(scores + i, row);
    largest = F::Max(largest, weight);
    F::Store(weights + i, weight);
    V* at = sum.lanes + i / F::kLanes % Sum<F>::kVecs;
    *at = F::Add(*at, weight);
  }
  sum.Store(lanes);
  return largest;
}

// The same for a page of which the first `visible` positions count; the sums take those from `skip` on.
template <class F, class S>
typename F::V PartialPageWeights(const S* scores, const SoftmaxRow<S>& row, int visible, int skip, float* weights,
                                 float* lanes) {
  using V = typename F::V;
  constexpr uint32_t kAll = (uint32_t{1} << F::kLanes) - 1;
  const uint64_t hidden = visible < kPageRows ? ~uint64_t{0} << visible : 0;
  const uint64_t skipped = skip < kPageRows ? (uint64_t{1} << skip) - 1 : ~uint64_t{0};
  Sum<F> sum;
  V largest = F::Set(0);
  for (int i = 0; i < kPageRows; i += F::kLanes) {
    const V weight = F::ZeroWhere(static_cast<uint32_t>(hidden >> i) & kAll, Weights<F>(scores + i, row));
    largest = F::Max(largest, weight);
    F::Store(weights + i, weight);
    V* at = sum.lanes + i / F::kLanes % Sum<F>::kVecs;
    *at = F::Add(*at, F::ZeroWhere(static_cast<uint32_t>(skipped >> i) & kAll, weight));
  }
  sum.Store(lanes);
  return largest;
}

// totals[r]: the sum of lanes[r][0 .. kSumLanes) for each of kSumRows rows.
template <class F>
void AddLanes(const float* lanes, float* totals) {
  constexpr int kVecs = Sum<F>::kVecs;
  for (int r = 0; r < kSumRows; r += F::kLanes) {
    typename F::V part[kVecs];
#pragma GCC unroll 4
    for (int i = 0; i < kVecs; ++i) {
      typename F::V rows[F::kLanes];
#pragma GCC unroll 16
      for (int j = 0; j < F::kLanes; ++j) rows[j] = F::Load(lanes + (r + j) * kSumLanes + i * F::kLanes);
      part[i] = F::SumEach(rows);
    }
#pragma GCC unroll 2
    for (int step = 1; step < kVecs; step *= 2) {
#pragma GCC unroll 2
      for (int i = 0; i < kVecs; i += 2 * step) part[i] = F::Add(part[i], part[i + step]);
    }
    F::Store(totals + r, part[0]);
  }
}

// Weights of the page for row r, into the row's next block; their sums into lanes. kWhole: all 64 positions are visible
// and counted.
template <class F, class S, bool kWhole>
void SoftmaxPageOfRow(const SoftmaxJob<S>& job, const S* scores, int64_t r, float* lanes) {
  SoftmaxRow<S>* row = job.row + r;
  typename F::V largest;
  if constexpr (kWhole) {
    largest = PageWeights<F>(scores, *row, row->block, lanes);
  } else {
    largest = PartialPageWeights<F>(scores, *row, job.visible == nullptr ? kPageRows : job.visible[r], job.skip,
                                    row->block, lanes);
  }
  const ptrdiff_t listed = F::MaskGreaterEqual(largest, F::Set(row->cutoff)) != 0 ? 1 : 0;
  *row->page = job.page;
  row->page += listed;
  row->block += listed * kPageRows;
}

// The sum of one row's lanes, in the order of AddLanes, without vectors.
static inline float AddRowLanes(const float* lanes) {
  float fours[4];
  for (int i = 0; i < 4; ++i) {
    fours[i] = (lanes[4 * i] + lanes[4 * i + 2]) + (lanes[4 * i + 1] + lanes[4 * i + 3]);
  }
  return (fours[0] + fours[1]) + (fours[2] + fours[3]);
}

constexpr int kFewRows = 4;  // up to this many rows AddRowLanes is faster than AddLanes

// Rows first .. first + count - 1 of the job; count is at most kSumRows.
template <class F, class S, bool kWhole>
void SoftmaxRows(const SoftmaxJob<S>& job, int first, int count) {
  alignas(64) float lanes[kSumRows * kSumLanes];
  alignas(64) float totals[kSumRows];
  const int32_t* at = job.at == nullptr ? nullptr : job.at + first;
  const S* scores = job.scores + int64_t{first} * kPageRows;
  for (int i = 0; i < count; ++i) {
    SoftmaxPageOfRow<F, S, kWhole>(job, scores + i * kPageRows, at == nullptr ? first + i : at[i],
                                   lanes + i * kSumLanes);
  }
  if (count <= kFewRows) {
    for (int i = 0; i < count; ++i) totals[i] = AddRowLanes(lanes + i * kSumLanes);
  } else {
    for (int i = count * kSumLanes; i < kSumRows * kSumLanes; ++i) lanes[i] = 0;
    AddLanes<F>(lanes, totals);
  }
  for (int i = 0; i < count; ++i) {
    const int64_t r = at == nullptr ? first + i : at[i];
    job.sums[r] = totals[i];
    job.row[r].mass += totals[i];
  }
}

template <class F, class S>
void SoftmaxPage(const SoftmaxJob<S>& job) {
  const typename F::FlushSubnormals flush;
  const bool whole = job.skip == 0 && job.visible == nullptr;
  for (int first = 0; first < job.rows; first += kSumRows) {
    const int count = job.rows - first < kSumRows ? job.rows - first : kSumRows;
    if (whole) {
      SoftmaxRows<F, S, true>(job, first, count);
    } else {
      SoftmaxRows<F, S, false>(job, first, count);
    }
  }
}

// 1 / n, from a table so that it has the same bits on every ISA.
struct Reciprocals {
  float of[kPageRows + 1] = {};
  constexpr Reciprocals() {
    for (int n = 1; n <= kPageRows; ++n) of[n] = 1.0f / static_cast<float>(n);
  }
};
constexpr Reciprocals kReciprocals;

// Divides the residual of a page that begins at position `begin` and holds `count` selected positions: writes the part
// of each selected position, returns the part of every visible position. Sink tokens take no part as selected ones.
template <class F>
float SpreadResidual(const ThresholdRow& row, int begin, float residual, int count, float* selected_residual) {
  const int below = row.always_below - begin, sinks = below < 0 ? 0 : below < count ? below : count;
  const int visible = row.n - begin < kPageRows ? row.n - begin : kPageRows;
  const float even = residual * kReciprocals.of[visible];
  const float of_selected = residual * kSelectedShare * kReciprocals.of[count - sinks];
  for (int i = 0; i < count; i += F::kLanes) F::Store(selected_residual + i, F::Set(of_selected));
  for (int i = 0; i < sinks; ++i) selected_residual[i] = 0;
  return sinks == count ? even : even * (1 - kSelectedShare);
}

// Bit j: whether the weight of position j of a page reaches the threshold.
template <class F>
uint64_t PageMask(const float* weights, typename F::V threshold) {
  uint64_t mask = 0;
#pragma GCC unroll 16
  for (int i = 0; i < kPageRows; i += F::kLanes) {
    mask |= uint64_t{F::MaskGreaterEqual(F::Load(weights + i), threshold)} << i;
  }
  return mask;
}

// The residual of a page: the sum of the weights whose bit in `selected` is 0.
template <class F>
float PageResidual(const float* weights, uint64_t selected) {
  constexpr uint32_t kAll = (uint32_t{1} << F::kLanes) - 1;
  Sum<F> residual;
#pragma GCC unroll 16
  for (int i = 0; i < kPageRows; i += F::kLanes) {
    typename F::V* lanes = residual.lanes + i / F::kLanes % Sum<F>::kVecs;
    *lanes = F::Add(*lanes, F::ZeroWhere(static_cast<uint32_t>(selected >> i) & kAll, F::Load(weights + i)));
  }
  return residual.Total();
}

// Appends the positions of a page whose bit in `mask` is 1, and their weights; the mask is not 0. Returns how many. It
// writes four at a time without asking whether four are left: mostly there are fewer, and a mispredicted branch costs
// more than three idle steps.
template <class F>
int AppendMasked(const ThresholdRow& row, const float* weights, int begin, uint64_t mask, int found) {
  if constexpr (F::kCompresses)
    return F::Compress(weights, mask, begin, row.positions + found, row.selected_weights + found);
  int count = 0;
  for (uint64_t left = mask; left != 0; count += 4) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const int j = __builtin_ctzll(left | uint64_t{1} << 63);
      row.positions[found + count + i] = begin + j;
      row.selected_weights[found + count + i] = weights[j];
      left &= left - 1;
    }
  }
  return __builtin_popcountll(mask);
}

// Bits of the first `count` positions of a page; a negative count gives none, one above 64 all.
static inline uint64_t FirstPositions(int count) {
  return count <= 0 ? 0 : count >= kPageRows ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
}

// Blocks [begin, end) of a row, the last one first: appends the selected positions, their weights and residual parts
// from index `found` on, returns how many. It makes all masks before it appends anything, because a branch on "this
// page holds a selected position" cannot be predicted.
template <class F>
int SelectBlocks(const ThresholdRow& row, int begin, int end, int found) {
  constexpr int kAtOnce = 64;
  const typename F::V threshold = F::Set(row.threshold);
  uint64_t masks[kAtOnce + 1];
  int at[kAtOnce + 1], hits = 0;
  for (int block = end - 1; block >= begin; --block) {
    const int first = row.pages[block] * kPageRows;
    masks[hits] = PageMask<F>(row.weights + block * kPageRows, threshold);
    if (first < row.always_below || first + kPageRows > row.always_from) {
      masks[hits] |= FirstPositions(row.always_below - first) | ~FirstPositions(row.always_from - first);
      masks[hits] &= FirstPositions(row.n - first);
    }
    at[hits] = block;
    hits += masks[hits] != 0 ? 1 : 0;
  }
  const int before = found;
  for (int i = 0; i < hits; ++i) {
    const float* weights = row.weights + at[i] * kPageRows;
    const int page = row.pages[at[i]];
    const float residual = PageResidual<F>(weights, masks[i]);
    const int count = AppendMasked<F>(row, weights, page * kPageRows, masks[i], found);
    row.page_residual[page * row.page_residual_stride] =
        SpreadResidual<F>(row, page * kPageRows, residual, count, row.selected_residual + found);
    found += count;
  }
  return found - before;
}

template <class F>
int SelectByThreshold(const ThresholdRow& row) {
  int count = 0;
  for (int end = row.blocks; end > 0; end -= 64) count += SelectBlocks<F>(row, end < 64 ? 0 : end - 64, end, count);
  return count;
}

// Defines the kernels of one ISA.
#define SHADOW_DEFINE_SOFTMAX(name, F)                                                      \
  void SoftmaxInt32##name(const SoftmaxJob<int32_t>& job) { SoftmaxPage<F, int32_t>(job); } \
  void SoftmaxInt8##name(const SoftmaxJob<int8_t>& job) { SoftmaxPage<F, int8_t>(job); }    \
  int SelectByThreshold##name(const ThresholdRow& row) { return SelectByThreshold<F>(row); }

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_SOFTMAX_GENERIC_H_
