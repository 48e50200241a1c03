// Bounds of pages -> the pages that a row scores, and what it would have lost without the others.
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

// What the pages [first, last) of a row hold that are below each of some cuts, added up.
inline constexpr int kCuts = 16;
struct BelowCuts {
  const int32_t* bounds;  // of page p: bounds[p]
  const float* sums;      // of page p: sums[p * stride]
  int64_t stride;
  int64_t first;
  int64_t last;
  const int32_t* cuts;  // [kCuts]
};
// below[m]: the sums of the pages with bounds below cuts[m], added to zero from the first page to the last.
using SumBelowFn = void (*)(const BelowCuts& job, float* below);
SumBelowFn GetSumBelowKernel(ArchFlags arch);

// The places of a set's bits, ascending; returns how many. A vector store may write past them: room for kListRoom.
inline constexpr int kListRoom = 64 + 16;
using ListBitsFn = int (*)(uint64_t set, int32_t* places);
ListBitsFn GetListBitsKernel(ArchFlags arch);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_PAGES_PAGES_H_
