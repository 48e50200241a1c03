// INT8 scores -> softmax weights, their sums, and the positions that a threshold keeps.
//
// The kernels work in float32, in an order that no vector width changes and with the same operations fused, so that
// every ISA keeps the same positions.
#ifndef SHADOWATTN_DELEGATE_KERNELS_WEIGH_WEIGH_H_
#define SHADOWATTN_DELEGATE_KERNELS_WEIGH_WEIGH_H_

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
struct WeighedRow {
  S reference;    // the score whose weight is one; as the scores within 2^29 of zero
  float factor;   // of WeightFactor
  float cutoff;   // pages without a weight of at least this are not listed
  float mass;     // the page's sum is added
  float* block;   // out [64]: exp(step * (score - reference)), zeros from `seen` on; the next one where it is listed
  int32_t* page;  // out: the page's number; the next one where it is listed
};

// The scores of some rows for one page.
template <class S>
struct WeighJob {
  const S* scores;  // [rows][64]
  int rows;
  WeighedRow<S>* row;   // in and out [rows]
  const int32_t* seen;  // [rows]: the page's positions that a row sees, at least one; null: all
  int skip;             // the page's first positions that no sum counts: attention sinks say nothing of the rest
  int32_t page;
  float* sums;  // out [rows]: of the weights from `skip` on
  // [rows]: the index of each row in all that is listed above but the scores; null: 0, 1, 2 ...
  const int32_t* at = nullptr;
};
// Weights within 2.7e-3; zero below 2^-126, infinite from 2^128 on.
using WeighInt32Fn = void (*)(const WeighJob<int32_t>& job);
using WeighInt8Fn = void (*)(const WeighJob<int8_t>& job);
WeighInt32Fn GetWeighInt32Kernel(ArchFlags arch);
WeighInt8Fn GetWeighInt8Kernel(ArchFlags arch);

// A row whose weights are to be split into those that are kept and the rest. Only listed pages have any that is kept.
struct ChooseRow {
  const float* weights;  // [blocks][64], zeros from n on
  const int32_t* pages;  // [blocks]: the page of each, descending
  int blocks;
  int n;
  float threshold;     // kept: weights of at least this,
  int keep_below;      // positions in [0, keep_below),
  int keep_from;       // and positions in [keep_from, n)
  int32_t* positions;  // out: the kept ones, ascending; room for n + 16
  float* kept;         // out: their weights; room for n + 16
  float* shares;       // out: what each of them takes over of its page's rest; room for n + 16
  float* rest;         // [pages of n], each rest_stride from the next: what each position of a page, kept or not, takes
  int64_t rest_stride;  // over. Written where something is kept; elsewhere it is the caller's
};
// A page's rest, the sum of its weights that are not kept, is spread over its positions up to n: evenly, but for
// kKeptShare of it, which goes to those that are kept there (evenly again; those below keep_below take none). Where
// a page has no such position, all of it is spread evenly. Returns how many positions are kept.
constexpr float kKeptShare = 0.25f;
using ChooseFn = int (*)(const ChooseRow& row);
ChooseFn GetChooseKernel(ArchFlags arch);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_WEIGH_WEIGH_H_
