// Softmax weights of a tile's rows from INT8 scores, page by page: only one page's scores are ever in memory
// (docs/op_spec.md, steps 1 to 3; tiles and an online softmax are FlashAttention's, INT8 scores SageAttention's). Pages
// come from a row's last to its first, as most of what is selected is near: so it is soon known what the others must
// hold to be selected, and only such pages are stored.
#ifndef SHADOWATTN_DELEGATE_ATTENTION_SOFTMAX_WEIGHTS_H_
#define SHADOWATTN_DELEGATE_ATTENTION_SOFTMAX_WEIGHTS_H_

#include <cstdint>

#include "attention/page_skipping.h"
#include "attention/scratch.h"
#include "attention/tile_rows.h"

namespace shadow {

// The weights of some rows, in scratch, as the kernels of kernels/softmax/ leave them. Pages come from a row's last to
// its first; those of which nothing can be selected are not listed.
struct RowWeights {
  float* weights;  // [rows][stride]: blocks of 64, zeros after the row's positions
  int64_t stride;
  int32_t* blocks;  // [rows]: how many
  int32_t* listed;  // [rows][pages]: the page of each block
  int64_t pages;    // of the longest row
  int64_t rows;
  float* sums;  // [pages][rows], zero where a row does not score a page
  float* mass;  // [rows]: of the positions from `sinks` on
  ScoredPages scored;

  // A page's weights for a row all of whose pages are listed.
  const float* page(int64_t row, int64_t page) const {
    return weights + row * stride + (blocks[row] - 1 - page) * kPageRows;
  }
  // The mass of the first `sinks` positions, which `mass` leaves out.
  float SinkMass(int64_t row, int64_t sinks) const;
};

// Which pages of a row must be listed.
struct SoftmaxRule {
  int sinks = 0;                      // first positions, which no sum counts; they are listed in any case,
  int latest = 1;                     // as are the latest ones
  const float* thresholds = nullptr;  // [rows]: share of its mass that a selected position has; null: list all pages
};

// Rows [begin, end) of a tile.
RowWeights SoftmaxInt8(const TileRows& rows, int64_t begin, int64_t end, const SoftmaxRule& rule, Scratch* scratch);

// The same for rows that an estimate graph scored, whose n ascend.
RowWeights SoftmaxOfGraphScores(const KernelTable& kernels, const GraphRow* rows, int count, const SoftmaxRule& rule,
                                Scratch* scratch);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ATTENTION_SOFTMAX_WEIGHTS_H_
