// INT8 scores of a tile's rows, made weights page by page: no more than a page's scores are ever in memory
// (docs/op_spec.md, steps 1 to 3).
#ifndef SHADOWATTN_DELEGATE_INT8_WEIGHTS_H_
#define SHADOWATTN_DELEGATE_INT8_WEIGHTS_H_

#include <cstdint>

#include "scratch.h"
#include "tile_rows.h"

namespace shadow {

// What is left in the scratch of some rows. Pages and sums as the kernels of kernels/weigh/ make them.
struct RowWeights {
  float* weights;  // [rows][stride], zeros behind a row's positions up to whole pages
  int64_t stride;
  float* sums;  // [rows][pages]
  int64_t pages;
  float* mass;  // [rows]: of the positions from `sinks` on
};

// Rows [begin, end), in scratch->scores, sums and mass.
RowWeights WeighInt8(const TileRows& rows, int64_t begin, int64_t end, int sinks, Scratch* scratch);

// Positions 0 .. n - 1 of one row, as an estimate graph scored them: the best score, and the logits that a step is
// worth.
struct GraphRow {
  const int8_t* scores;
  int n;
  int8_t best;
  float step;
};

// As row 0 of what is returned.
RowWeights WeighGraphScores(const KernelTable& kernels, const GraphRow& row, int sinks, Scratch* scratch);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_INT8_WEIGHTS_H_
