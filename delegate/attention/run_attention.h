// One chunk of one layer: steps 1 to 5 of docs/op_spec.md (what it computes).
#ifndef SHADOWATTN_DELEGATE_ATTENTION_RUN_ATTENTION_H_
#define SHADOWATTN_DELEGATE_ATTENTION_RUN_ATTENTION_H_

#include "attention/attention_job.h"
#include "attention/tile_rows.h"
#include "cache/statistics.h"

namespace shadow {

// Computes rows 0 .. n_valid - 1 and adds to *statistics. Throws std::bad_alloc.
void RunAttention(const AttentionJob& job, Statistics* statistics);

// Times [begin, end) of a chunk.
struct Times {
  int64_t begin;
  int64_t end;
};

// How the rows of a KV head at some times are divided into tiles.
class Tiling {
 public:
  Tiling(const AttentionJob& job, Times times);
  int64_t rows() const { return rows_; }
  int64_t count() const { return (offset_ + rows_ + size_ - 1) / size_; }
  TileRows Tile(const AttentionJob& job, int kv_head, int64_t i) const;

 private:
  int64_t first_;
  int64_t rows_;
  int64_t size_;
  int64_t offset_;  // rows that the first tile lacks
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ATTENTION_RUN_ATTENTION_H_
