// INT8 scores of a tile's rows, made weights page by page: no more than a page's scores are ever in memory
// (docs/op_spec.md, steps 1 to 3).
#ifndef SHADOWATTN_DELEGATE_INT8_WEIGHTS_H_
#define SHADOWATTN_DELEGATE_INT8_WEIGHTS_H_

#include <cstdint>

#include "page_bounds.h"
#include "scratch.h"
#include "tile_rows.h"

namespace shadow {

// What is left in the scratch of some rows. Pages and sums as the kernels of kernels/weigh/ make them.
struct RowWeights {
  float* weights;  // [rows][stride], of the scored pages; zeros behind a row's positions up to whole pages
  int64_t stride;
  float* sums;  // [rows][pages]
  int64_t pages;
  float* mass;  // [rows]: of the positions from `sinks` on
  ScoredPages scored;
};

// Rows [begin, end), in scratch->scores, sums and mass.
RowWeights WeighInt8(const TileRows& rows, int64_t begin, int64_t end, int sinks, Scratch* scratch);

// The same of rows that an estimate graph scored, whose n ascend: in scratch->scores, sums and mass.
RowWeights WeighGraphScores(const KernelTable& kernels, const GraphRow* rows, int count, int sinks, Scratch* scratch);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_INT8_WEIGHTS_H_
