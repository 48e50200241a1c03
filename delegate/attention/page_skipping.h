// Block skipping: a page whose key bounds (key_bounds.h) lie far below the best one's holds next to none of a row's
// mass, so the row need not score it (docs/op_spec.md, step 2). The bounds are Quest's; the margin is learnt from the
// text.
#ifndef SHADOWATTN_DELEGATE_ATTENTION_PAGE_SKIPPING_H_
#define SHADOWATTN_DELEGATE_ATTENTION_PAGE_SKIPPING_H_

#include <cstdint>

#include "attention/scratch.h"
#include "attention/tile_rows.h"

namespace shadow {

// A set of pages for each of some rows.
struct ScoredPages {
  uint64_t* bits = nullptr;  // [rows][words]; null: all pages of all rows
  int64_t words = 0;
  const int32_t* bounds = nullptr;  // [rows][stride], of the full pages
  int64_t stride = 0;

  const uint64_t* of(int64_t row) const { return bits == nullptr ? nullptr : bits + row * words; }
  bool has(int64_t row, int64_t page) const { return bits == nullptr || (of(row)[page / 64] >> page % 64 & 1) != 0; }
  int Count(int64_t row) const {
    int count = 0;
    for (int64_t word = 0; word < words; ++word) count += __builtin_popcountll(of(row)[word]);
    return count;
  }
};

// Whether the job's mode and settings allow skipping at all.
bool SkipsPages(const AttentionJob& job);
// Whether the rows of a tile up to `end` may skip any page.
bool MaySkipPages(const TileRows& rows, int64_t end);
// The pages that rows [begin, end) score, which QuantizeRows() has quantised into scratch; at most kMaxTileRows rows.
// The sets are in scratch->scored, and hold no page that a row does not see.
ScoredPages SelectPages(const TileRows& rows, int64_t begin, int64_t end, Scratch* scratch);

// The scores of a row that scored all its pages, the i-th of those of SelectPages().
struct ScoredRow {
  int64_t r;
  int64_t i;
  const float* sums;  // of the weights of its pages, each `stride` from the next
  int64_t stride;
  float mass;  // their sum
  float step;  // logits per unit of the scores
};
// Adds a skip-loss sample where the row is one that is sampled: how much of its mass it would have lost at each margin.
void SampleSkipLoss(const TileRows& rows, const ScoredPages& scored, const ScoredRow& row);

// matrix[i] bit j -> bit i of matrix[j].
void TransposeBits(uint64_t matrix[64]);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ATTENTION_PAGE_SKIPPING_H_
