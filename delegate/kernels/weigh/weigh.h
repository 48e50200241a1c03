// The scores of one query row -> softmax weights, their sum, and the positions that a threshold keeps.
//
// Both kernels work with separate float32 operations (nothing fused) in an order that no vector width changes, so that
// every ISA keeps the same positions.
#ifndef SHADOWATTN_DELEGATE_KERNELS_WEIGH_WEIGH_H_
#define SHADOWATTN_DELEGATE_KERNELS_WEIGH_WEIGH_H_

#include <cstdint>

#include "kernels/arch.h"

namespace shadow {

// weights[j] = exp(scale * (scores[j] - max scores)), j in [0, n), zeros up to the next multiple of 64; returns the sum
// of those from `skip` on (the first positions, attention sinks, may hold nearly all of the mass and say nothing of the
// rest). scale > 0 (0: every weight is 1). Int32 scores may be the memory of `weights`; those have room for n
// rounded up to a multiple of 64, 64-byte aligned. Weights below 2^-126 are zero.
using WeighInt32Fn = float (*)(const int32_t* scores, int n, int skip, float scale, float* weights);
using WeighInt8Fn = float (*)(const int8_t* scores, int n, int skip, float scale, float* weights);
WeighInt32Fn GetWeighInt32Kernel(ArchFlags arch);
WeighInt8Fn GetWeighInt8Kernel(ArchFlags arch);

// A row whose weights are to be split into those that are kept and the rest.
struct ChooseRow {
  const float* weights;  // [n], zeros up to a multiple of 64
  int n;
  float threshold;     // kept: weights of at least this,
  int keep_below;      // positions in [0, keep_below),
  int keep_from;       // and positions in [keep_from, n)
  int32_t* positions;  // out: the kept ones, ascending; room for n + 16
  float* kept;         // out: their weights; room for n + 16
  float* shares;       // out: what each of them takes over of its page's rest; room for n + 16
  float* rest;         // out [pages of n]: what each position of a page, kept or not, takes over
};
// A page's rest, the sum of its weights that are not kept, is spread over its positions up to n: evenly, but for
// kKeptShare of it, which goes to those that are kept there (evenly again; those below keep_below take none). Where
// a page has no such position, all of it is spread evenly. Returns how many positions are kept.
constexpr float kKeptShare = 0.25f;
using ChooseFn = int (*)(const ChooseRow& row);
ChooseFn GetChooseKernel(ArchFlags arch);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_WEIGH_WEIGH_H_
