// INT8 scores -> softmax weights, their sums, and the positions that a threshold keeps.
//
// The kernels work in float32, in an order that no vector width changes and with the same operations fused, so that
// every ISA keeps the same positions.
#ifndef SHADOWATTN_DELEGATE_KERNELS_SOFTMAX_SOFTMAX_H_
#define SHADOWATTN_DELEGATE_KERNELS_SOFTMAX_SOFTMAX_H_

#include <cstdint>

#include "kernels/arch.h"

namespace shadow {

// What Weigh multiplies a difference of scores with, each worth `step` logits: octaves. Bounded, as products must be
// finite; of scores that differ only the largest counts by then.
inline float WeightFactor(float step) {
  const float factor = step * 1.44269504f;
  return factor < 1e28f ? factor : 1e28f;
}

// What Weigh knows of a row, from page to page.
template <class S>
struct SoftmaxRow {
  S reference;    // the score whose weight is one; as the scores within 2^29 of zero
  float factor;   // of WeightFactor
  float cutoff;   // pages without a weight of at least this are not listed
  float mass;     // the page's sum is added
  float* block;   // out [64]: exp(step * (score - reference)), zeros from `seen` on; the next one where it is listed
  int32_t* page;  // out: the page's number; the next one where it is listed
};

// The scores of some rows for one page.
template <class S>
struct SoftmaxJob {
  const S* scores;  // [rows][64]
  int rows;
  SoftmaxRow<S>* row;      // in and out [rows]
  const int32_t* visible;  // [rows]: the page's positions that a row sees, at least one; null: all
  int skip;                // the page's first positions that no sum counts: attention sinks say nothing of the rest
  int32_t page;
  float* sums;  // out [rows]: of the weights from `skip` on
  // [rows]: the index of each row in all that is listed above but the scores; null: 0, 1, 2 ...
  const int32_t* at = nullptr;
};
// Weights within 2.7e-3; zero below 2^-126, infinite from 2^128 on.
using SoftmaxInt32Fn = void (*)(const SoftmaxJob<int32_t>& job);
using SoftmaxInt8Fn = void (*)(const SoftmaxJob<int8_t>& job);
SoftmaxInt32Fn GetSoftmaxInt32Kernel(ArchFlags arch);
SoftmaxInt8Fn GetSoftmaxInt8Kernel(ArchFlags arch);

// A row whose weights are to be split into those that are kept and the rest. Only listed pages have any that is kept.
struct ThresholdRow {
  const float* weights;  // [blocks][64], zeros from n on
  const int32_t* pages;  // [blocks]: the page of each, descending
  int blocks;
  int n;
  float threshold;           // kept: weights of at least this,
  int always_below;          // positions in [0, always_below),
  int always_from;           // and positions in [always_from, n)
  int32_t* positions;        // out: the kept ones, ascending; room for n + 16
  float* selected_weights;   // out: their weights; room for n + 16
  float* selected_residual;  // out: what each of them takes over of its page's rest; room for n + 16
  float* page_residual;  // [pages of n], each page_residual_stride from the next: what each position of a page, kept or
                         // not, takes
  int64_t page_residual_stride;  // over. Written where something is kept; elsewhere it is the caller's
};
// A page's rest, the sum of its weights that are not kept, is spread over its positions up to n: evenly, but for
// kSelectedShare of it, which goes to those that are kept there (evenly again; those below always_below take none).
// Where a page has no such position, all of it is spread evenly. Returns how many positions are kept.
constexpr float kSelectedShare = 0.25f;
using SelectByThresholdFn = int (*)(const ThresholdRow& row);
SelectByThresholdFn GetSelectByThresholdKernel(ArchFlags arch);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_SOFTMAX_SOFTMAX_H_
