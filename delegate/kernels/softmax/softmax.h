// Softmax weights of INT8 scores, their sums, and the positions that a threshold selects (docs/algorithm.md, steps 3
// and 5).
//
// The kernels work in float32, in an order that does not depend on the vector width and with the same operations fused,
// so that every ISA selects the same positions.
#ifndef SHADOWATTN_DELEGATE_KERNELS_SOFTMAX_SOFTMAX_H_
#define SHADOWATTN_DELEGATE_KERNELS_SOFTMAX_SOFTMAX_H_

#include <cstdint>

#include "kernels/arch.h"

namespace shadow {

// Factor from a difference of scores, each worth `step` logits, to a base-2 exponent: step * log2(e). It is bounded
// because its products must be finite; scores that differ at all are then so far apart that only the largest counts.
inline float WeightFactor(float step) {
  const float factor = step * 1.44269504f;
  return factor < 1e28f ? factor : 1e28f;
}

// State of one query row that the kernels carry from page to page. A page is listed if one of its weights reaches the
// cutoff: only listed pages can hold selected positions, so only their weights are stored.
template <class S>
struct SoftmaxRow {
  S reference;    // score whose weight is 1; within 2^29 of zero, as all scores
  float factor;   // WeightFactor(step)
  float cutoff;   // a page is listed if its largest weight is at least this
  float mass;     // in and out: the sum of the page's weights is added
  float* block;   // out [64]: exp(step * (score - reference)), 0 for hidden positions; advances if the page is listed
  int32_t* page;  // out: number of the page; advances if the page is listed
};

// Scores of some query rows against one page of 64 keys.
template <class S>
struct SoftmaxJob {
  const S* scores;  // [rows][64]
  int rows;
  SoftmaxRow<S>* row;      // in and out [rows]
  const int32_t* visible;  // [rows]: visible positions of the page (causal mask), at least 1; null: all 64
  int skip;                // first positions of the page that no sum counts: sink tokens hold mass that says nothing
                           // about the other positions
  int32_t page;            // number of the page
  float* sums;             // out [rows]: sums of the weights from `skip` on
  // [rows]: row i of `scores` belongs to element at[i] of row, visible and sums; null: to element i.
  const int32_t* at = nullptr;
};
// Relative error of a weight: at most 2.7e-3. Weights below 2^-126 are 0, from 2^128 on infinite.
using SoftmaxInt32Fn = void (*)(const SoftmaxJob<int32_t>& job);
using SoftmaxInt8Fn = void (*)(const SoftmaxJob<int8_t>& job);
SoftmaxInt32Fn GetSoftmaxInt32Kernel(ArchFlags arch);
SoftmaxInt8Fn GetSoftmaxInt8Kernel(ArchFlags arch);

// One query row whose positions are divided into selected ones and others. Only listed pages hold selected positions.
struct ThresholdRow {
  const float* weights;      // [blocks][64], 0 from position n on
  const int32_t* pages;      // [blocks]: page of each block, descending
  int blocks;                // number of listed pages
  int n;                     // visible positions
  float threshold;           // selected are weights of at least this,
  int always_below;          // positions in [0, always_below): sink tokens,
  int always_from;           // and positions in [always_from, n): the recent window
  int32_t* positions;        // out: selected positions, ascending; room for n + 16
  float* selected_weights;   // out: their weights; room for n + 16
  float* selected_residual;  // out: weight that compensation adds to each of them; room for n + 16
  float* page_residual;      // out [pages of n]: weight that compensation gives to every visible position of a page,
                             // selected or not. Written for pages that hold a selected position; the caller fills the
                             // others
  int64_t page_residual_stride;  // floats from one page's element to the next
};
// Returns the number of selected positions.
//
// Residual compensation: the residual of a page is the sum of the weights that were not selected. kSelectedShare of it
// goes in equal parts to the selected positions of the page from always_below on, the rest in equal parts to all
// visible positions of the page. A page without such a selected position spreads all of its residual equally. (SparQ,
// arXiv 2312.04985, compensates with the mean of all values; here it is the mean of a page: docs/related_work.md.)
constexpr float kSelectedShare = 0.25f;
using SelectByThresholdFn = int (*)(const ThresholdRow& row);
SelectByThresholdFn GetSelectByThresholdKernel(ArchFlags arch);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_SOFTMAX_SOFTMAX_H_
