// Every position of every row, with scores, weights and values in INT8 (mode int8; docs/op_spec.md, modes).
#ifndef SHADOWATTN_DELEGATE_ATTENTION_INT8_TILE_H_
#define SHADOWATTN_DELEGATE_ATTENTION_INT8_TILE_H_

#include <cstddef>
#include <cstdint>

#include "attention/scratch.h"
#include "attention/softmax_weights.h"
#include "attention/tile_rows.h"
#include "cache/statistics.h"

namespace shadow {

// What the mode derives from a full page: INT8 values.
size_t Int8ValuesBytes(int head_dim);
void MakeInt8Values(const AttentionJob& job, int kv_head, int64_t page, uint8_t* memory, Scratch* scratch);

// A row's full pages are those whose 64 positions are all visible; of the positions after them, fewer than 64, it takes
// the float values. So a row's result does not depend on the chunk that it comes in.
class Int8Tile {
 public:
  Int8Tile(const TileRows& rows, Scratch* scratch) : rows_(rows), scratch_(scratch) {}

  // Writes the outputs of all rows; adds times and positions read.
  void Run(Statistics* statistics);

 private:
  const AttentionJob& job() const { return rows_.job(); }
  int64_t FullPages(int64_t r) const { return rows_.Causal(r) / kPageRows; }
  int64_t count() const { return end_ - begin_; }

  void QuantizeWeights();
  void AddFullPages();
  void AddPage(int64_t page, int64_t first);
  void AddOpenPages();

  const TileRows& rows_;
  Scratch* scratch_;
  // The rows that are worked on: [begin_, end_).
  int64_t begin_ = 0;
  int64_t end_ = 0;
  RowWeights w_{};
};

void RunInt8Tile(const TileRows& rows, int64_t first, Scratch* scratch, Statistics* statistics);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ATTENTION_INT8_TILE_H_
