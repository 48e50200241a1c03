// Block skipping: from the upper bounds of a query's scores, one for each page, to the pages that the query scores, and
// to the softmax mass that skipping would lose (docs/algorithm.md, step 2). Bounds from the smallest and largest key of
// a page are the idea of Quest (arXiv 2406.10774).
//
// Integers, and float32 sums in the order of the pages: the same bits on every ISA.
#ifndef SHADOWATTN_DELEGATE_KERNELS_PAGES_PAGES_H_
#define SHADOWATTN_DELEGATE_KERNELS_PAGES_PAGES_H_

#include <cstdint>

#include "kernels/arch.h"

namespace shadow {

// The largest of n >= 1 bounds.
using LargestBoundFn = int32_t (*)(const int32_t* bounds, int64_t n);
LargestBoundFn GetLargestBoundKernel(ArchFlags arch);

// Bit i of bits[w]: whether bounds[64 w + i] < cut, w in [0, words).
using BitsBelowFn = void (*)(const int32_t* bounds, int32_t cut, int64_t words, uint64_t* bits);
BitsBelowFn GetBitsBelowKernel(ArchFlags arch);

// Mass of the pages in [first, last) whose bound lies below a cut, for each of kCuts cuts (one per skip margin).
inline constexpr int kCuts = 16;
struct BelowCuts {
  const int32_t* bounds;  // bounds[p]: largest score that page p can have
  const float* sums;      // sums[p * stride]: sum of the softmax weights of page p
  int64_t stride;
  int64_t first;
  int64_t last;
  const int32_t* cuts;  // [kCuts]
};
// below[m]: the sum over the pages with bounds[p] < cuts[m], added in order from the first page to the last.
using SumBelowFn = void (*)(const BelowCuts& job, float* below);
SumBelowFn GetSumBelowKernel(ArchFlags arch);

// Writes the indices of the bits that are 1, ascending; returns how many. A vector store may write past them: places
// has room for kListRoom.
inline constexpr int kListRoom = 64 + 16;
using ListBitsFn = int (*)(uint64_t set, int32_t* places);
ListBitsFn GetListBitsKernel(ArchFlags arch);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_PAGES_PAGES_H_
