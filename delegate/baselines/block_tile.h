// Exact attention over the best pages of a block of queries (mode block_sparse; docs/op_spec.md, modes). Block sparsity
// by means of blocks is MInference's and XAttention's.
#ifndef SHADOWATTN_DELEGATE_BASELINES_BLOCK_TILE_H_
#define SHADOWATTN_DELEGATE_BASELINES_BLOCK_TILE_H_

#include <cstddef>
#include <cstdint>

#include "attention/scratch.h"
#include "attention/tile_rows.h"
#include "cache/statistics.h"

namespace shadow {

// What the mode derives from a full page: the sum of its keys.
size_t KeySumBytes(int head_dim);
void MakeKeySum(const AttentionJob& job, int kv_head, int64_t page, uint8_t* memory, Scratch* scratch);

// Pages that a block of queries selects of `visible` >= 1.
int64_t SelectedPages(const CacheSettings& settings, int64_t visible);

// The rows of a tile from `first` on. The tile holds whole times of one block: the chunk's positions in one page.
class BlockTile {
 public:
  BlockTile(const TileRows& rows, int64_t first, Scratch* scratch) : rows_(rows), first_(first), scratch_(scratch) {}

  // Writes the outputs of the rows; adds times and positions read.
  void Run(Statistics* statistics);

 private:
  const AttentionJob& job() const { return rows_.job(); }
  // The page that holds the block's own positions.
  int64_t own_page() const { return (rows_.Longest() - 1) / kPageRows; }

  void MeanQuery(int64_t head, double* mean) const;
  int64_t SelectPages(int64_t head);
  void Attend(int64_t head, int64_t pages, Statistics* statistics);

  const TileRows& rows_;
  const int64_t first_;
  Scratch* scratch_;
};

void RunBlockTile(const TileRows& rows, int64_t first, Scratch* scratch, Statistics* statistics);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_BASELINES_BLOCK_TILE_H_
