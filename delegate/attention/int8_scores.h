// INT8 scores of a tile's rows, estimated in the op (docs/op_spec.md, steps 1 and 2).
#ifndef SHADOWATTN_DELEGATE_ATTENTION_INT8_SCORES_H_
#define SHADOWATTN_DELEGATE_ATTENTION_INT8_SCORES_H_

#include <cstdint>

#include "attention/scratch.h"
#include "attention/tile_rows.h"

namespace shadow {

// How many rows of a tile are worked on at a time, so that what they store stays in a second-level cache: fewer than
// the tile has where the context is long. Where all scores are stored, and where only the weights of listed pages are.
int64_t RowsScored(const TileRows& rows);
int64_t RowsPerSoftmax(const TileRows& rows);

// Distance of the scores of neighbouring rows: whole pages of the longest of rows [.., end).
int64_t ScoreStride(const TileRows& rows, int64_t end);

// Queries of rows [begin, end) in INT8: scratch->q_i8 [end - begin][PaddedBytes(d)], q_sum, and step [begin ..]: what
// one unit of their scores is worth in logits.
void QuantizeRows(const TileRows& rows, int64_t begin, int64_t end, Scratch* scratch);

// Rows [begin, end), quantised: scratch->scores [end - begin][stride], which has room for them.
void ScoreInt8(const TileRows& rows, int64_t begin, int64_t end, int64_t stride, Scratch* scratch);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ATTENTION_INT8_SCORES_H_
