// Pages that a row need not score: the largest and the smallest INT8 key of each channel bound every score of a page,
// and a page whose bound lies far below the best one holds next to nothing (docs/op_spec.md, step 2).
#ifndef SHADOWATTN_DELEGATE_KEY_BOUNDS_H_
#define SHADOWATTN_DELEGATE_KEY_BOUNDS_H_

#include <cstdint>

#include "scratch.h"
#include "tile_rows.h"

namespace shadow {

// Bounds lie as a page of 64 keys does whose "keys" are pages and whose channels are twice as many: first the largest,
// then the smallest.
inline constexpr int kBoundPages = 64;
static constexpr size_t KeyBoundBytes(int head_dim) { return size_t(2 * PaddedBytes(head_dim)) * kBoundPages; }
// Of a full page, into column `column` of its block.
void WriteKeyBounds(const uint8_t* k_u8, int head_dim, int column, uint8_t* block);

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

// Whether the mode and its settings allow it at all.
bool SkipsPages(const AttentionJob& job);
// Whether the rows of a tile up to `end` may leave any out.
bool MaySkipPages(const TileRows& rows, int64_t end);
// At most so many rows at a time: a page's set of rows is one word.
inline constexpr int64_t kMaxRowsBounded = 60;
// The pages that rows [begin, end) score, which QuantizeRows() has quantised into scratch; in scratch->scored. Other
// pages than a row sees are not among them.
ScoredPages SelectPages(const TileRows& rows, int64_t begin, int64_t end, Scratch* scratch);
// Notes in the cache's history what row r, the i-th of those, would have lost: it scored everything. sums: of its
// pages, each `stride` from the next, adding up to `mass`.
void RecordSkipLosses(const TileRows& rows, int64_t r, const ScoredPages& scored, int64_t i, const float* sums,
                      int64_t stride, float mass, float step);

// matrix[i] bit j -> bit i of matrix[j].
void TransposeBits(uint64_t matrix[64]);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KEY_BOUNDS_H_
