// Exact attention to the k best positions of each row (modes shadow_paper and float_estimate; docs/op_spec.md, k best).
#ifndef SHADOWATTN_DELEGATE_BASELINES_TOP_K_TILE_H_
#define SHADOWATTN_DELEGATE_BASELINES_TOP_K_TILE_H_

#include <cstdint>

#include "attention/row_observer.h"
#include "attention/scratch.h"
#include "attention/selected_rows.h"
#include "attention/tile_rows.h"
#include "cache/statistics.h"

namespace shadow {

// Whose scores decide: INT8 ones (of an estimate graph where the job has them), or those in float32.
enum class Ranking { kInt8, kFloat32 };

// Rows [first, rows.count()) of a tile.
class TopKTile {
 public:
  TopKTile(const TileRows& rows, int64_t first, Ranking ranking, Scratch* scratch);

  // Writes their outputs; adds times and positions read.
  void Run(Statistics* statistics);

 private:
  const AttentionJob& job() const { return rows_.job(); }
  bool graph_scores() const { return ranking_ == Ranking::kInt8 && job().part.scores.values != nullptr; }

  int64_t MostSelected() const;
  int64_t CountOf(int64_t r) const;  // k
  void Score(int64_t begin, int64_t end);
  void ScoreFloats(int64_t begin, int64_t end);
  void Select(int64_t r, int64_t begin);
  void Attend();

  const TileRows& rows_;
  const int64_t first_;
  const Ranking ranking_;
  Scratch* const scratch_;
  SelectedRows selected_;
  RowObserver observer_;
  int64_t score_stride_ = 0;
};

void RunTopKTile(const TileRows& rows, int64_t first, Scratch* scratch, Statistics* statistics);
void RunFloatTopKTile(const TileRows& rows, int64_t first, Scratch* scratch, Statistics* statistics);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_BASELINES_TOP_K_TILE_H_
