// INT8 scores of a tile's rows, estimated in the op (docs/op_spec.md, steps 1 and 2).
#ifndef SHADOWATTN_DELEGATE_INT8_SCORES_H_
#define SHADOWATTN_DELEGATE_INT8_SCORES_H_

#include <cstdint>

#include "scratch.h"
#include "tile_rows.h"

namespace shadow {

// Rows whose scores are kept at a time: fewer than a tile has where the context is long.
int64_t RowsScored(const TileRows& rows);
// Rows that are weighed at a time where only pages with something to keep are stored.
int64_t RowsPerSoftmax(const TileRows& rows);

// Distance of the scores of neighbouring rows: whole pages of the longest of rows [.., end).
int64_t ScoreStride(const TileRows& rows, int64_t end);

// Queries of rows [begin, end) in INT8: scratch->q_i8 [end - begin][PaddedBytes(d)], q_sum, and step [begin ..]: what
// one unit of their scores is worth in logits.
void QuantizeRows(const TileRows& rows, int64_t begin, int64_t end, Scratch* scratch);

// Rows [begin, end), quantised: scratch->scores [end - begin][stride], which has room for them.
void ScoreInt8(const TileRows& rows, int64_t begin, int64_t end, int64_t stride, Scratch* scratch);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_INT8_SCORES_H_
