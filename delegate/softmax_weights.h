// INT8 scores of a tile's rows, made weights page by page: no more than a page's scores are ever in memory
// (docs/op_spec.md, steps 1 to 3). From a row's last page to its first, as most of what is kept is near: so what can be
// kept of the others is soon known, and only that is stored.
#ifndef SHADOWATTN_DELEGATE_SOFTMAX_WEIGHTS_H_
#define SHADOWATTN_DELEGATE_SOFTMAX_WEIGHTS_H_

#include <cstdint>

#include "key_bounds.h"
#include "scratch.h"
#include "tile_rows.h"

namespace shadow {

// What is left in the scratch of some rows, as the kernels of kernels/softmax/ make it. Pages come from a row's last to
// its first, those on which nothing can be kept are not listed.
struct RowWeights {
  float* weights;  // [rows][stride]: blocks of 64, zeros behind a row's positions
  int64_t stride;
  int32_t* blocks;  // [rows]: how many
  int32_t* listed;  // [rows][pages]: the page of each block
  int64_t pages;    // of the longest row
  int64_t rows;
  float* sums;  // [pages][rows], zero where a row has not scored a page
  float* mass;  // [rows]: of the positions from `sinks` on
  ScoredPages scored;

  // A page's weights for a row all of whose pages are listed.
  const float* page(int64_t row, int64_t page) const {
    return weights + row * stride + (blocks[row] - 1 - page) * kPageRows;
  }
  // Of the first positions, fewer than `mass` counts.
  float SinkMass(int64_t row, int64_t sinks) const;
};

// Which pages of a row must be listed.
struct SoftmaxRule {
  int sinks = 0;                      // first positions, which no sum counts; listed in any case,
  int latest = 1;                     // as are the last ones
  const float* thresholds = nullptr;  // [rows]: share of its mass that a position must have to be kept; null: list all
};

// Rows [begin, end) of a tile.
RowWeights SoftmaxInt8(const TileRows& rows, int64_t begin, int64_t end, const SoftmaxRule& rule, Scratch* scratch);

// The same of rows that an estimate graph scored, whose n ascend.
RowWeights SoftmaxOfGraphScores(const KernelTable& kernels, const GraphRow* rows, int count, const SoftmaxRule& rule,
                                Scratch* scratch);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_SOFTMAX_WEIGHTS_H_
