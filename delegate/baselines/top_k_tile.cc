#include "baselines/top_k_tile.h"

#include <algorithm>
#include <numeric>

#include "attention/int8_scores.h"
#include "baselines/top_k.h"

namespace shadow {
namespace {

// Integers in the order of the floats: select_int32 then ranks them. In place.
void OrderedIntegers(int32_t* floats, int64_t n) {
  for (int64_t i = 0; i < n; ++i) floats[i] ^= (floats[i] >> 31) & 0x7FFFFFFF;
}

}  // namespace

TopKTile::TopKTile(const TileRows& rows, int64_t first, Ranking ranking, Scratch* scratch)
    : rows_(rows),
      first_(first),
      ranking_(ranking),
      scratch_(scratch),
      selected_(rows, first, MostSelected(), scratch),
      observer_(rows) {}

void TopKTile::Run(Statistics* statistics) {
  StageClock clock;
  for (int64_t begin = first_, end; begin < rows_.count(); begin = end) {
    end = std::min(rows_.count(), begin + RowsScored(rows_));
    if (!graph_scores()) Score(begin, end);
    statistics->seconds_estimate += clock.Lap();
    for (int64_t r = begin; r < end; ++r) {
      Select(r, begin);
      observer_.Selected(r, selected_.positions(r - first_), selected_.size(r - first_));
    }
    statistics->seconds_select += clock.Lap();
  }
  Attend();
  statistics->seconds_attend += clock.Lap();
  selected_.Count(statistics);
}

int64_t TopKTile::MostSelected() const {
  int64_t most = 0;
  for (int64_t r = first_; r < rows_.count(); ++r) most = std::max(most, CountOf(r));
  return most;
}

// The paper's budget of a head, which was measured with INT8 scores.
int64_t TopKTile::CountOf(int64_t r) const {
  const double budget =
      ranking_ == Ranking::kInt8 ? double(job().plan->paper_budgets(job().chunk().layer)[rows_.Head(r)]) : 1.0;
  return SelectedCount(job().settings, rows_.Causal(r), budget);
}

void TopKTile::Score(int64_t begin, int64_t end) {
  score_stride_ = ScoreStride(rows_, end);
  scratch_->scores.Reserve((end - begin) * score_stride_);
  if (ranking_ == Ranking::kFloat32) return ScoreFloats(begin, end);
  ScoreInt8(rows_, begin, end, score_stride_, scratch_);
}

void TopKTile::ScoreFloats(int64_t begin, int64_t end) {
  const int d = job().op().head_dim;
  const KvView view = rows_.view();
  const float* q = LoadQueries(rows_, begin, scratch_);
  float* memory = scratch_->attend.Reserve(int64_t{kPageRows} * PaddedFloats(d));
  auto* scores = reinterpret_cast<float*>(scratch_->scores.data());
  for (int64_t page = 0; page * kPageRows < rows_.Causal(end - 1); ++page) {
    job().kernels.of(view.type).score_page(
        {q, int(end - begin), d, job().op().softmax_scale, scores + page * kPageRows, score_stride_},
        view.pages[page].k, memory);
  }
  OrderedIntegers(scratch_->scores.data(), (end - begin) * score_stride_);
}

// begin: the first row that was scored with r.
void TopKTile::Select(int64_t r, int64_t begin) {
  const int64_t causal = rows_.Causal(r), i = r - first_, k = CountOf(r);
  const ForcedRanges forced = SplitForced(job().settings, causal, k);
  selected_.size(i) = int32_t(k);
  int32_t* out = selected_.positions(i);
  std::iota(out, out + forced.scored_begin, 0);
  out += forced.scored_begin;
  const int n = int(forced.scored_end - forced.scored_begin);
  const auto offset = int32_t(forced.scored_begin);
  int32_t* memory = scratch_->select.Reserve(causal + 64);
  if (graph_scores()) {
    job().kernels.select_int8(rows_.GraphScores(r) + offset, n, int(forced.scored_k), offset, memory, out);
  } else {
    const int32_t* scores = scratch_->scores.data() + (r - begin) * score_stride_;
    job().kernels.select_int32(scores + offset, n, int(forced.scored_k), offset, memory, out);
  }
  out += forced.scored_k;
  std::iota(out, out + (causal - forced.scored_end), int32_t(forced.scored_end));
}

void TopKTile::Attend() {
  const float* sums = selected_.ComputeExactWeights();
  for (int64_t i = 0; i < selected_.count(); ++i) selected_.factor(i) = 1.0f / sums[i];
  job().kernels.of(rows_.view().type).add_values(selected_.Tile(), rows_.view());
}

void RunTopKTile(const TileRows& rows, int64_t first, Scratch* scratch, Statistics* statistics) {
  TopKTile(rows, first, Ranking::kInt8, scratch).Run(statistics);
}

void RunFloatTopKTile(const TileRows& rows, int64_t first, Scratch* scratch, Statistics* statistics) {
  TopKTile(rows, first, Ranking::kFloat32, scratch).Run(statistics);
}

}  // namespace shadow
