// Rows that read only some of their positions: score, choose, attend, and the tail (docs/op_spec.md, steps 2 to 5).
#ifndef SHADOWATTN_DELEGATE_SPARSE_TILE_H_
#define SHADOWATTN_DELEGATE_SPARSE_TILE_H_

#include <cstdint>

#include "row_observer.h"
#include "scratch.h"
#include "softmax_weights.h"
#include "tile_rows.h"

namespace shadow {

// What stands for a row's positions that are not kept: nothing where it has no tail.
struct RowResidual {
  float* selected_residual;  // [k], added to the weights of the kept
  float* page_residual;      // [pages], each `stride` from the next: the weight of each position of a page
  int64_t stride;
};
// Scales them by `scale` and adds the shares to weights [k].
void Compensate(const RowResidual& residual, float scale, int k, int64_t pages, float* weights);

// Rows [first, rows.count()) of a tile, in modes shadow, shadow_paper and float_estimate.
class SparseTile {
 public:
  SparseTile(const TileRows& rows, int64_t first, Scratch* scratch) : rows_(rows), first_(first), scratch_(scratch) {}

  // Writes their outputs; adds times, kept positions and rows without tail.
  void Run(Statistics* statistics);

 private:
  const AttentionJob& job() const { return rows_.job(); }
  const CacheSettings& settings() const { return job().settings; }
  int64_t count() const { return rows_.count() - first_; }
  bool by_threshold() const { return settings().mode == Mode::kShadow; }
  bool coarse() const { return job().scores.values != nullptr; }
  // The scores are the logits, so nothing is computed again.
  bool scores_are_logits() const { return by_threshold() && !coarse(); }

  void CountPages(int64_t begin, int64_t end, const ScoredPages& scored, Statistics* statistics) const;
  void Reserve();
  int64_t SelectedBound() const;
  float Threshold(int64_t r) const;
  double Budget(int64_t r) const;
  void Score(int64_t begin, int64_t end);
  void ScoreFloats(int64_t begin, int64_t end);
  void SelectByThreshold(int64_t r, const RowWeights& w, int64_t of_row, bool compensate);
  SoftmaxRule Rule(int64_t begin, int64_t end);
  RowWeights SoftmaxOfGraph(int64_t begin, int64_t end);
  void SelectByGraphScores(int64_t r, const RowWeights& w, int64_t of_row, Statistics* statistics);
  void SelectTopK(int64_t r, const int32_t* scores);
  RowResidual Residual(int64_t i) const;  // of row first_ + i
  void CompensateSelected(int64_t begin, int64_t end);
  void SpreadEvenly(int64_t begin, int64_t end, const RowWeights& w);
  void DropResidual(const RowResidual& residual, int k) const;
  const int8_t* CoarseScores(int64_t r) const;
  float CoarseScale(int64_t r) const;
  void Attend();
  void ExactSoftmax(const Selection& selected);
  void SumOwnPages();
  const float* SumPages(int pages);

  const TileRows& rows_;
  const int64_t first_;
  Scratch* scratch_;
  RowObserver observer_{rows_};
  int64_t score_stride_ = 0;
  int64_t stride_ = 0;  // of selected and weights
  int64_t pages_ = 0;   // of the longest row
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_SPARSE_TILE_H_
