// Exact attention to every position (mode dense, and rows of other modes up to min_k).
#ifndef SHADOWATTN_DELEGATE_ATTENTION_DENSE_TILE_H_
#define SHADOWATTN_DELEGATE_ATTENTION_DENSE_TILE_H_

#include <cstdint>

#include "attention/scratch.h"
#include "attention/tile_rows.h"
#include "cache/statistics.h"

namespace shadow {

// More rows than in other modes: a page's keys and values are converted once for all of them.
inline constexpr int64_t kMaxDenseTileRows = 96;

// The first `count` rows of a tile; adds time and positions read.
void AttendDense(const TileRows& rows, int64_t count, Scratch* scratch, Statistics* statistics);

void RunDenseTile(const TileRows& rows, int64_t first, Scratch* scratch, Statistics* statistics);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ATTENTION_DENSE_TILE_H_
