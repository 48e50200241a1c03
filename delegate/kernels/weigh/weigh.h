// INT8 scores -> softmax weights, their sums, and the positions that a threshold keeps.
//
// The kernels work in float32, in an order that no vector width changes and with the same operations fused, so that
// every ISA keeps the same positions.
#ifndef SHADOWATTN_DELEGATE_KERNELS_WEIGH_WEIGH_H_
#define SHADOWATTN_DELEGATE_KERNELS_WEIGH_WEIGH_H_

#include <cstdint>

#include "kernels/arch.h"

namespace shadow {

// What Weigh multiplies a difference of scores with, each worth `step` logits: the bits of a float32 count 2^23 per
// octave. Bounded, as products must be finite; of scores that differ only the largest counts by then.
inline float WeightFactor(float step) {
  const float factor = step * (1.44269504f * 8388608.0f);
  return factor < 1e30f ? factor : 1e30f;
}

// The scores of some rows for one page.
template <class S>
struct WeighJob {
  const S* scores;  // [rows][64]
  int rows;
  const S* reference;   // [rows]; as the scores within 2^29 of zero
  const float* factor;  // [rows], of WeightFactor
  const int32_t* seen;  // [rows]: the page's positions that a row sees; null: all
  int skip;             // the page's first positions that no sum counts: attention sinks say nothing of the rest
  float* weights;       // out [rows][stride], exp(step * (score - reference)); zeros from `seen` on
  int64_t stride;
  float* sums;  // out [rows][sum_stride]: of the weights from `skip` on
  int64_t sum_stride;
  float* mass;  // [rows], the sums are added
  // [rows]: the index of each row in all that is listed above but the scores; null: 0, 1, 2 ...
  const int32_t* at = nullptr;
};
// Weights within 7e-4; those below 2^-125 are zero, those above 2^127 are 2^127.
using WeighInt32Fn = void (*)(const WeighJob<int32_t>& job);
using WeighInt8Fn = void (*)(const WeighJob<int8_t>& job);
WeighInt32Fn GetWeighInt32Kernel(ArchFlags arch);
WeighInt8Fn GetWeighInt8Kernel(ArchFlags arch);

// A row whose weights are to be split into those that are kept and the rest.
struct ChooseRow {
  const float* weights;  // [n], zeros up to a multiple of 64
  const float* sums;     // [pages of n], as Weigh made them with the first keep_below positions skipped
  int n;
  float threshold;     // kept: weights of at least this,
  int keep_below;      // positions in [0, keep_below),
  int keep_from;       // and positions in [keep_from, n)
  int32_t* positions;  // out: the kept ones, ascending; room for n + 16
  float* kept;         // out: their weights; room for n + 16
  float* shares;       // out: what each of them takes over of its page's rest; room for n + 16
  float* rest;         // out [pages of n]: what each position of a page, kept or not, takes over
  // The pages that were scored, as bits; null: all. Pages that are not hold nothing: they have no weights. The pages of
  // positions below keep_below and from keep_from on must be among them.
  const uint64_t* scored = nullptr;
};
// A page's rest, the sum of its weights that are not kept, is spread over its positions up to n: evenly, but for
// kKeptShare of it, which goes to those that are kept there (evenly again; those below keep_below take none). Where
// a page has no such position, all of it is spread evenly. Returns how many positions are kept.
constexpr float kKeptShare = 0.25f;
using ChooseFn = int (*)(const ChooseRow& row);
ChooseFn GetChooseKernel(ArchFlags arch);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_WEIGH_WEIGH_H_
