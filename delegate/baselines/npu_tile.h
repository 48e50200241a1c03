// Attention as a static INT8 graph computes it: every tensor has one scale per layer, and saturates (mode npu_full;
// docs/op_spec.md, modes).
#ifndef SHADOWATTN_DELEGATE_BASELINES_NPU_TILE_H_
#define SHADOWATTN_DELEGATE_BASELINES_NPU_TILE_H_

#include <cstddef>
#include <cstdint>

#include "attention/scratch.h"
#include "attention/tile_rows.h"
#include "base/status.h"
#include "cache/statistics.h"
#include "config/plan.h"

namespace shadow {

// Refuses a plan that has measured no ranges.
Status CheckStaticRanges(const Plan& plan, int layer);

// What the mode derives from a full page: INT8 keys and values.
size_t NpuPageBytes(int head_dim);
void MakeNpuPage(const AttentionJob& job, int kv_head, int64_t page, uint8_t* memory, Scratch* scratch);

class NpuTile {
 public:
  NpuTile(const TileRows& rows, Scratch* scratch);

  // Writes the outputs of all rows; adds times and positions read.
  void Run(Statistics* statistics);

 private:
  const AttentionJob& job() const { return rows_.job(); }
  int64_t count() const { return end_ - begin_; }
  int64_t Pages(int64_t r) const { return (rows_.Causal(r) + kPageRows - 1) / kPageRows; }
  const uint8_t* Page(int64_t page) const;
  int32_t* Scores(int64_t r) const { return scratch_->npu_scores.data() + (r - begin_) * stride_; }

  void QuantizeQueries();
  void Score();
  void Softmax(int64_t r);
  void AddValues();
  void AddPage(int64_t page, int64_t first);
  void Store();

  const TileRows& rows_;
  Scratch* scratch_;
  const StaticRanges ranges_;
  const int64_t wide_;  // channels, rounded up to whole blocks of pv_int8
  // The rows that are worked on: [begin_, end_).
  int64_t begin_ = 0;
  int64_t end_ = 0;
  int64_t stride_ = 0;  // of their scores
};

void RunNpuTile(const TileRows& rows, int64_t first, Scratch* scratch, Statistics* statistics);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_BASELINES_NPU_TILE_H_
