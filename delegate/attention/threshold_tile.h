// Rows that select the positions above a threshold of probability, and compensate for the others (mode shadow;
// docs/op_spec.md, steps 2 to 5).
#ifndef SHADOWATTN_DELEGATE_ATTENTION_THRESHOLD_TILE_H_
#define SHADOWATTN_DELEGATE_ATTENTION_THRESHOLD_TILE_H_

#include <cstdint>

#include "attention/residual.h"
#include "attention/row_observer.h"
#include "attention/scratch.h"
#include "attention/selected_rows.h"
#include "attention/softmax_weights.h"
#include "attention/tile_rows.h"
#include "cache/statistics.h"

namespace shadow {

// Rows [first, rows.count()) of a tile. The scores are the op's own, which are the logits, or those of an estimate
// graph: these are too coarse for more than the selection, so that the logits of the selected are computed again.
class ThresholdTile {
 public:
  ThresholdTile(const TileRows& rows, int64_t first, Scratch* scratch);

  // Writes their outputs; adds times, positions read, pages scored and rows not compensated.
  void Run(Statistics* statistics);

 private:
  const AttentionJob& job() const { return rows_.job(); }
  const CacheSettings& settings() const { return job().settings; }
  bool graph_scores() const { return job().part.scores.values != nullptr; }

  int64_t MostSelected() const;
  float Threshold(int64_t r) const;
  SoftmaxRule Rule(int64_t begin, int64_t end);
  RowWeights SoftmaxOfGraph(int64_t begin, int64_t end);
  float GraphScale(int64_t r) const;
  void CountPages(int64_t begin, int64_t end, const ScoredPages& scored, Statistics* statistics) const;
  void SpreadEvenly(int64_t begin, int64_t end, const RowWeights& w);
  bool MayCompensate(int64_t of_row, Statistics* statistics) const;
  void Select(int64_t r, const RowWeights& w, int64_t of_row, bool compensate);
  void SetFactor(int64_t i, float all, bool compensate);
  RowResidual Residual(int64_t i) const;  // of row first_ + i
  void CompensateSelected(int64_t begin, int64_t end);
  void DropResidual(int64_t i) const;
  void Attend();
  void ComputeExactWeights();
  void AddOwnPages();
  const float* PageSums(int pages);

  const TileRows& rows_;
  const int64_t first_;
  Scratch* const scratch_;
  const int64_t pages_;  // of the longest row
  SelectedRows selected_;
  RowObserver observer_;
};

void RunThresholdTile(const TileRows& rows, int64_t first, Scratch* scratch, Statistics* statistics);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ATTENTION_THRESHOLD_TILE_H_
