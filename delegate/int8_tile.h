// Every position of every row, with scores, weights and values in INT8 (mode int8; docs/op_spec.md, modes).
#ifndef SHADOWATTN_DELEGATE_INT8_TILE_H_
#define SHADOWATTN_DELEGATE_INT8_TILE_H_

#include <cstddef>
#include <cstdint>

#include "scratch.h"
#include "softmax_weights.h"
#include "tile_rows.h"

namespace shadow {

// The INT8 values that mode int8 keeps of a full page: their size, and how they are made from the page's values.
size_t Int8ValuesBytes(int head_dim);
void MakeInt8Values(const AttentionJob& job, int kv_head, int64_t page, uint8_t* memory, Scratch* scratch);

// A row's full pages are those whose 64 positions it all sees; the positions behind them, fewer than 64, keep their
// float values. So a row computes the same whatever chunk it comes in.
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

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_INT8_TILE_H_
