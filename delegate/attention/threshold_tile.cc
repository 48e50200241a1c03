#include "attention/threshold_tile.h"

#include <algorithm>
#include <cfloat>
#include <cstring>
#include <numeric>

#include "attention/int8_scores.h"
#include "base/magnitude.h"

namespace shadow {
namespace {

// A step of INT8 scores above this many logits leaves too few levels for the mass of the small ones.
constexpr float kCoarsestStep = 0.3f;

int64_t PagesOf(int64_t n) { return (n + kPageRows - 1) / kPageRows; }

}  // namespace

ThresholdTile::ThresholdTile(const TileRows& rows, int64_t first, Scratch* scratch)
    : rows_(rows),
      first_(first),
      scratch_(scratch),
      pages_(PagesOf(rows.Longest())),
      selected_(rows, first, MostSelected(), scratch),
      observer_(rows) {
  scratch->selected_residual.Reserve(selected_.count() * selected_.stride());
  scratch->page_residual.Reserve(pages_ * selected_.count());
  scratch->residual_mass.Reserve(selected_.count());
}

void ThresholdTile::Run(Statistics* statistics) {
  StageClock clock;
  const int64_t rows_at_a_time = graph_scores() ? RowsScored(rows_) : RowsPerSoftmax(rows_);
  for (int64_t begin = first_, end; begin < rows_.count(); begin = end) {
    end = std::min(rows_.count(), begin + rows_at_a_time);
    const RowWeights w =
        graph_scores() ? SoftmaxOfGraph(begin, end) : SoftmaxInt8(rows_, begin, end, Rule(begin, end), scratch_);
    if (!graph_scores()) CountPages(begin, end, w.scored, statistics);
    statistics->seconds_estimate += clock.Lap();
    SpreadEvenly(begin, end, w);
    for (int64_t r = begin; r < end; ++r) {
      Select(r, w, r - begin, MayCompensate(r - begin, statistics));
      observer_.Selected(r, selected_.positions(r - first_), selected_.size(r - first_));
    }
    if (!graph_scores() && settings().compensate) CompensateSelected(begin, end);
    statistics->seconds_select += clock.Lap();
  }
  Attend();
  statistics->seconds_attend += clock.Lap();
  selected_.Count(statistics);
}

void ThresholdTile::CountPages(int64_t begin, int64_t end, const ScoredPages& scored, Statistics* statistics) const {
  for (int64_t r = begin; r < end; ++r) {
    const int64_t pages = PagesOf(rows_.Causal(r));
    statistics->pages += pages;
    statistics->pages_scored += scored.bits == nullptr ? pages : scored.Count(r - begin);
  }
}

// No row of the tile selects more.
int64_t ThresholdTile::MostSelected() const {
  int64_t most = 0;
  for (int64_t r = first_; r < rows_.count(); ++r) {
    const int64_t causal = rows_.Causal(r);
    // Each of them has at least this share of the mass. The mass is a rounded sum, of a page's weights and then of the
    // pages, and every addition may lose 2^-24 of it.
    const double threshold = double(Threshold(r)), lost = double(kPageRows + causal / kPageRows) / (1 << 23);
    const double bound =
        threshold > 0 ? (1.001 + lost) / threshold + settings().sinks + settings().latest + 1 : double(causal);
    most = std::max(most, int64_t(std::min(double(causal), bound)));
  }
  return most;
}

float ThresholdTile::Threshold(int64_t r) const {
  return float(job().thresholds->At(rows_.Causal(r)) * double(job().part.threshold_factors[rows_.Head(r)]));
}

// Observers are told of all weights, so that every page is listed then.
SoftmaxRule ThresholdTile::Rule(int64_t begin, int64_t end) {
  float* thresholds = scratch_->thresholds.Reserve(end - begin);
  for (int64_t r = begin; r < end; ++r) thresholds[r - begin] = Threshold(r);
  const bool observed = job().observer != nullptr && !graph_scores() && job().observer->wants_weights();
  return {settings().sinks, settings().latest, observed ? nullptr : thresholds};
}

RowWeights ThresholdTile::SoftmaxOfGraph(int64_t begin, int64_t end) {
  const int count = int(end - begin);
  GraphRow* rows = scratch_->graph_rows.Reserve(count);
  for (int i = 0; i < count; ++i) {
    const int8_t* scores = rows_.GraphScores(begin + i);
    const auto n = int(rows_.Causal(begin + i));
    rows[i] = {scores, n, Largest(scores, n), GraphScale(begin + i)};
  }
  return SoftmaxOfGraphScores(job().kernels, rows, count, Rule(begin, end), scratch_);
}

// What one step of a row's scores is worth in logits.
float ThresholdTile::GraphScale(int64_t r) const {
  const Plan& plan = *job().plan;
  if (const int bucket = job().part.scores.bucket; bucket > 0) {
    const int q_bucket = (bucket - 1) / plan.k_buckets(), k_bucket = (bucket - 1) % plan.k_buckets();
    return float(double(job().op().softmax_scale) * double(plan.score_scale(q_bucket, k_bucket)));
  }
  const int layer = job().chunk().layer, head = rows_.kv_head();
  const double step =
      CoarseStep(rows_.Query(r), plan.k_variance(layer, head), plan.estimate_multiplier(), job().op().head_dim);
  if (!(step > 0)) return 0.0f;
  return float(double(job().op().softmax_scale) * double(plan.scale(layer, head)) /
               (double(plan.estimate_multiplier()) * step));
}

// Whether a row is compensated: the mass by an estimate graph's scores is of no use where these are coarse or clipped.
bool ThresholdTile::MayCompensate(int64_t of_row, Statistics* statistics) const {
  if (!settings().compensate || !graph_scores()) return settings().compensate;
  const GraphRow& row = scratch_->graph_rows.data()[of_row];
  const bool trusted = row.step <= kCoarsestStep && row.best < 127;
  statistics->rows_not_compensated += !trusted;
  return trusted;
}

void ThresholdTile::Select(int64_t r, const RowWeights& w, int64_t of_row, bool compensate) {
  const auto n = int(rows_.Causal(r));
  const int64_t i = r - first_;
  const int sinks = std::min(settings().sinks, n);
  const int always_from = n - std::min(std::max(settings().latest, 1), n);
  const float mass = w.mass[of_row];
  const float* weights = w.weights + of_row * w.stride;
  const int32_t* listed = w.listed + of_row * (w.pages + 1);
  if (!graph_scores()) {
    observer_.Softmaxed(r, {weights, listed, w.blocks[of_row], w.sums + of_row, w.rows, sinks, always_from, mass});
  }
  const RowResidual residual = Residual(i);
  // At least the smallest normal number, so that no more than MostSelected() are.
  const float threshold = std::max(scratch_->thresholds.data()[of_row] * mass, FLT_MIN);
  selected_.size(i) = job().kernels.select_by_threshold(
      {weights, listed, w.blocks[of_row], n, threshold, sinks, always_from, selected_.positions(i),
       selected_.weights(i), residual.selected_residual, residual.page_residual, residual.stride});
  if (!compensate) DropResidual(i);
  SetFactor(i, mass + w.SinkMass(of_row, sinks), compensate);
}

// all: the mass of all positions.
void ThresholdTile::SetFactor(int64_t i, float all, bool compensate) {
  if (compensate && !graph_scores()) {
    selected_.factor(i) = 1.0f / all;
    return;
  }
  const float* weights = selected_.weights(i);
  const float mass = std::accumulate(weights, weights + selected_.size(i), 0.0f);
  scratch_->residual_mass.data()[i] = compensate ? std::max(all - mass, 0.0f) : 0.0f;
  selected_.factor(i) = mass > 0 ? 1.0f / mass : 0.0f;  // zero: all that is selected has underflowed
}

// Once all rows have selected: what a row has just stored in pieces is slow to load whole.
void ThresholdTile::CompensateSelected(int64_t begin, int64_t end) {
  for (int64_t i = begin - first_; i < end - first_; ++i) {
    Compensate(Residual(i), 1.0f, selected_.size(i), pages_, selected_.weights(i));
  }
}

// What each position takes of a page's weight where nothing of the page is selected.
void ThresholdTile::SpreadEvenly(int64_t begin, int64_t end, const RowWeights& w) {
  const int64_t rows = end - begin, stride = selected_.count();
  for (int64_t page = 0; page < pages_; ++page) {
    float* page_residual = scratch_->page_residual.data() + page * stride + begin - first_;
    if (page >= w.pages) {
      std::fill_n(page_residual, rows, 0.0f);
      continue;
    }
    const float* sums = w.sums + page * w.rows;
    for (int64_t i = 0; i < rows; ++i) page_residual[i] = sums[i] * (1.0f / kPageRows);
  }
  for (int64_t r = begin; r < end; ++r) {
    const int64_t page = rows_.Causal(r) / kPageRows, own = rows_.Causal(r) % kPageRows;
    if (own == 0) continue;
    scratch_->page_residual.data()[page * stride + r - first_] = w.sums[page * w.rows + r - begin] / float(own);
  }
}

void ThresholdTile::DropResidual(int64_t i) const {
  const RowResidual residual = Residual(i);
  std::fill_n(residual.selected_residual, selected_.size(i), 0.0f);
  for (int64_t page = 0; page < pages_; ++page) residual.page_residual[page * residual.stride] = 0;
}

RowResidual ThresholdTile::Residual(int64_t i) const {
  return {scratch_->selected_residual.data() + i * selected_.stride(), scratch_->page_residual.data() + i,
          selected_.count()};
}

void ThresholdTile::Attend() {
  if (graph_scores()) ComputeExactWeights();
  ValueTile tile = selected_.Tile();
  tile.allow_fp16 = !graph_scores();
  if (settings().compensate) {
    AddOwnPages();
    tile.pages = int(rows_.Longest() / kPageRows);
    tile.page_residual = scratch_->page_residual.data();
    tile.page_sums = PageSums(tile.pages);
  }
  job().kernels.of(rows_.view().type).add_values(tile, rows_.view());
}

// The residual, which only the graph's scores know, is scaled as the selected weights are: by the sum of the exact
// weights over that of the estimated ones.
void ThresholdTile::ComputeExactWeights() {
  const float* sums = selected_.ComputeExactWeights();
  for (int64_t i = 0; i < selected_.count(); ++i) {
    const float scale = sums[i] * selected_.factor(i);
    Compensate(Residual(i), scale, selected_.size(i), pages_, selected_.weights(i));
    selected_.factor(i) = 1.0f / (sums[i] + scratch_->residual_mass.data()[i] * scale);
  }
}

// The page that holds a row's own position counts up to there: what comes later is the future.
void ThresholdTile::AddOwnPages() {
  const int d = job().op().head_dim;
  const int64_t padded = PaddedFloats(d);
  const KvView view = rows_.view();
  float* sum = scratch_->prefix.Reserve(padded);
  int64_t summed_page = -1, summed = 0;
  for (int64_t i = 0; i < selected_.count(); ++i) {
    const int64_t n = rows_.Causal(first_ + i), page = n / kPageRows, own = n % kPageRows;
    if (own == 0) continue;  // all of it
    if (page != summed_page) {
      std::fill(sum, sum + padded, 0.0f);
      summed_page = page;
      summed = 0;
    }
    job().kernels.of(view.type).sum_values(view.pages[page].v, int(summed), int(own), d, sum);
    summed = own;
    float* page_residual = scratch_->page_residual.data() + page * selected_.count() + i;
    for (int64_t c = 0; c < padded; ++c) selected_.start(i)[c] = *page_residual * sum[c];
    *page_residual = 0;
  }
}

const float* ThresholdTile::PageSums(int pages) {
  const int64_t padded = PaddedFloats(job().op().head_dim);
  const KvView view = rows_.view();
  float* sums = scratch_->page_sums.Reserve(pages * padded + 1);
  for (int page = 0; page < pages; ++page) {
    std::memcpy(sums + page * padded, view.pages[page].v_sum, padded * sizeof(float));
  }
  return sums;
}

void RunThresholdTile(const TileRows& rows, int64_t first, Scratch* scratch, Statistics* statistics) {
  ThresholdTile(rows, first, scratch).Run(statistics);
}

}  // namespace shadow
