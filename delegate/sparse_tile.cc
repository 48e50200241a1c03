#include "sparse_tile.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <numeric>

#include "int8_scores.h"
#include "kernels/quantize/quantize.h"
#include "magnitude.h"
#include "top_k.h"

namespace shadow {
namespace {

constexpr int64_t kSlack = 32;  // kernels may read and store this much past the end of a selection
// A step of INT8 scores above this many logits leaves too few levels for the mass of the small ones.
constexpr float kCoarsestStep = 0.3f;

constexpr int64_t RoundUp(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Integers in the order of the floats: select_int32 then ranks them. In place.
void OrderedIntegers(int32_t* floats, int64_t n) {
  for (int64_t i = 0; i < n; ++i) floats[i] ^= (floats[i] >> 31) & 0x7FFFFFFF;
}

}  // namespace

void Compensate(const RowResidual& residual, float scale, int k, int64_t pages, float* weights) {
  for (int i = 0; i < k; ++i) weights[i] += scale * residual.selected_residual[i];
  if (scale == 1.0f) return;
  for (int64_t page = 0; page < pages; ++page) residual.page_residual[page * residual.stride] *= scale;
}

void SparseTile::Run(Statistics* statistics) {
  StageClock clock;
  Reserve();
  for (int64_t begin = first_; begin < rows_.count();) {
    const int64_t end =
        std::min(rows_.count(), begin + (scores_are_logits() ? RowsPerSoftmax(rows_) : RowsScored(rows_)));
    RowWeights w{};
    if (scores_are_logits()) {
      w = SoftmaxInt8(rows_, begin, end, Rule(begin, end), scratch_);
      CountPages(begin, end, w.scored, statistics);
    } else if (!coarse()) {
      Score(begin, end);
    } else if (by_threshold()) {
      w = SoftmaxOfGraph(begin, end);
    }
    statistics->seconds_estimate += clock.Lap();
    if (by_threshold()) SpreadEvenly(begin, end, w);
    for (int64_t r = begin; r < end; ++r) {
      if (scores_are_logits()) {
        SelectByThreshold(r, w, r - begin, settings().compensate);
      } else if (by_threshold()) {
        SelectByGraphScores(r, w, r - begin, statistics);
      } else {
        SelectTopK(r, scratch_->scores.data() + (r - begin) * score_stride_);
      }
      observer_.Selected(r, scratch_->selected.data() + (r - first_) * stride_, scratch_->counts.data()[r - first_]);
    }
    if (scores_are_logits() && settings().compensate) CompensateSelected(begin, end);
    statistics->seconds_select += clock.Lap();
    begin = end;
  }
  Attend();
  statistics->seconds_attend += clock.Lap();
  for (int64_t r = 0; r < count(); ++r) statistics->value_rows_read += scratch_->counts.data()[r];
}

void SparseTile::CountPages(int64_t begin, int64_t end, const ScoredPages& scored, Statistics* statistics) const {
  for (int64_t r = begin; r < end; ++r) {
    const int64_t pages = RoundUp(rows_.Causal(r), kPageRows) / kPageRows;
    statistics->pages += pages;
    statistics->pages_scored += scored.bits == nullptr ? pages : scored.Count(r - begin);
  }
}

void SparseTile::Reserve() {
  const int64_t padded = PaddedFloats(job().op.head_dim);
  stride_ = RoundUp(SelectedBound() + kSlack, 16);
  pages_ = RoundUp(rows_.Longest(), kPageRows) / kPageRows;
  scratch_->selected.Reserve(count() * stride_);
  scratch_->weights.Reserve(count() * stride_);
  scratch_->selected_residual.Reserve(count() * stride_);
  scratch_->counts.Reserve(count());
  scratch_->factor.Reserve(count());
  scratch_->page_residual.Reserve(pages_ * count());
  scratch_->residual_mass.Reserve(count());
  scratch_->start.Reserve(count() * padded);
}

// No row of the tile keeps more.
int64_t SparseTile::SelectedBound() const {
  int64_t bound = 0;
  for (int64_t r = first_; r < rows_.count(); ++r) {
    const int64_t causal = rows_.Causal(r);
    if (!by_threshold()) {
      bound = std::max(bound, SelectedCount(settings(), causal, Budget(r)));
      continue;
    }
    // Each of them has at least this share of the mass. The mass is a rounded sum, of a page's weights and then of the
    // pages, and every addition may lose 2^-24 of it.
    const double threshold = double(Threshold(r)), lost = double(kPageRows + causal / kPageRows) / (1 << 23);
    const double most =
        threshold > 0 ? (1.001 + lost) / threshold + settings().sinks + settings().latest + 1 : double(causal);
    bound = std::max(bound, int64_t(std::min(double(causal), most)));
  }
  return bound;
}

float SparseTile::Threshold(int64_t r) const {
  return float(job().thresholds->At(rows_.Causal(r)) * double(job().threshold_factors[rows_.Head(r)]));
}

double SparseTile::Budget(int64_t r) const {
  if (settings().mode != Mode::kShadowPaper || job().plan == nullptr) return 1.0;
  return double(job().plan->paper_budgets(job().chunk.layer)[rows_.Head(r)]);
}

void SparseTile::Score(int64_t begin, int64_t end) {
  score_stride_ = ScoreStride(rows_, end);
  scratch_->scores.Reserve((end - begin) * score_stride_);
  scratch_->select.Reserve(score_stride_ + 64);
  if (settings().mode == Mode::kFloatEstimate) return ScoreFloats(begin, end);
  ScoreInt8(rows_, begin, end, score_stride_, scratch_);
}

void SparseTile::ScoreFloats(int64_t begin, int64_t end) {
  const int d = job().op.head_dim;
  const KvView view = rows_.view();
  const float* q = LoadQueries(rows_, begin, scratch_);
  float* scratch = scratch_->attend.Reserve(int64_t{kPageRows} * PaddedFloats(d));
  auto* scores = reinterpret_cast<float*>(scratch_->scores.data());
  for (int64_t page = 0; page * kPageRows < rows_.Causal(end - 1); ++page) {
    job().kernels.of(view.type).score_page(
        {q, int(end - begin), d, job().op.softmax_scale, scores + page * kPageRows, score_stride_}, view.pages[page].k,
        scratch);
  }
  OrderedIntegers(scratch_->scores.data(), (end - begin) * score_stride_);
}

// The estimate graph's rows are head-major: (KV head, query head, t).
const int8_t* SparseTile::CoarseScores(int64_t r) const {
  const HeadGroup& heads = job().heads;
  const int64_t kv_head = rows_.kv_head() - heads.first_kv_head;
  const int64_t row = (kv_head * heads.width + rows_.GroupHead(r) - heads.first) * job().time + rows_.Time(r);
  return job().scores.values + row * job().scores.length;
}

// Observers are told of all weights, so that every page is listed then.
SoftmaxRule SparseTile::Rule(int64_t begin, int64_t end) {
  float* thresholds = scratch_->thresholds.Reserve(end - begin);
  for (int64_t r = begin; r < end; ++r) thresholds[r - begin] = Threshold(r);
  const bool observed = job().observer != nullptr && scores_are_logits() && job().observer->wants_weights();
  return {settings().sinks, settings().latest, observed ? nullptr : thresholds};
}

RowWeights SparseTile::SoftmaxOfGraph(int64_t begin, int64_t end) {
  const int count = int(end - begin);
  GraphRow* rows = scratch_->graph_rows.Reserve(count);
  for (int i = 0; i < count; ++i) {
    const int8_t* scores = CoarseScores(begin + i);
    const auto n = int(rows_.Causal(begin + i));
    rows[i] = {scores, n, Largest(scores, n), CoarseScale(begin + i)};
  }
  return SoftmaxOfGraphScores(job().kernels, rows, count, Rule(begin, end), scratch_);
}

// From the scores of an estimate graph, which are too coarse to be trusted with more than the choice, and with the tail
// only where they are not clipped.
void SparseTile::SelectByGraphScores(int64_t r, const RowWeights& w, int64_t of_row, Statistics* statistics) {
  const GraphRow& row = scratch_->graph_rows.data()[of_row];
  const bool compensate = settings().compensate && row.step <= kCoarsestStep && row.best < 127;
  statistics->rows_not_compensated += settings().compensate && !compensate;
  SelectByThreshold(r, w, of_row, compensate);
}

void SparseTile::SelectByThreshold(int64_t r, const RowWeights& w, int64_t of_row, bool compensate) {
  const auto n = int(rows_.Causal(r));
  const int64_t i = r - first_;
  const int sinks = std::min(settings().sinks, n);
  const int always_from = n - std::min(std::max(settings().latest, 1), n);
  const float mass = w.mass[of_row];
  const float* weights = w.weights + of_row * w.stride;
  const int32_t* listed = w.listed + of_row * (w.pages + 1);
  if (scores_are_logits()) {
    observer_.Softmaxed(r, {weights, listed, w.blocks[of_row], w.sums + of_row, w.rows, sinks, always_from, mass});
  }
  float* selected_weights = scratch_->weights.data() + i * stride_;
  const RowResidual residual = Residual(i);
  // At least the smallest normal number, so that no more than SelectedBound() are kept.
  const float threshold = std::max(scratch_->thresholds.data()[of_row] * mass, FLT_MIN);
  const ThresholdRow row{weights,
                         listed,
                         w.blocks[of_row],
                         n,
                         threshold,
                         sinks,
                         always_from,
                         scratch_->selected.data() + i * stride_,
                         selected_weights,
                         residual.selected_residual,
                         residual.page_residual,
                         residual.stride};
  const int k = job().kernels.select_by_threshold(row);
  scratch_->counts.data()[i] = k;
  if (!compensate) DropResidual(residual, k);
  const float all = mass + w.SinkMass(of_row, sinks);
  if (compensate && scores_are_logits()) {
    scratch_->factor.data()[i] = 1.0f / all;
    return;
  }
  const float selected_mass = std::accumulate(selected_weights, selected_weights + k, 0.0f);
  scratch_->residual_mass.data()[i] = compensate ? std::max(all - selected_mass, 0.0f) : 0.0f;
  scratch_->factor.data()[i] =
      selected_mass > 0 ? 1.0f / selected_mass : 0.0f;  // zero: all that is kept has underflowed
}

// The scores' weights are final. Once all rows have chosen: what a row has just stored in pieces is slow to load whole.
void SparseTile::CompensateSelected(int64_t begin, int64_t end) {
  for (int64_t i = begin - first_; i < end - first_; ++i) {
    Compensate(Residual(i), 1.0f, scratch_->counts.data()[i], pages_, scratch_->weights.data() + i * stride_);
  }
}

// What each position takes over of a page on which nothing is kept.
void SparseTile::SpreadEvenly(int64_t begin, int64_t end, const RowWeights& w) {
  const int64_t rows = end - begin;
  for (int64_t page = 0; page < pages_; ++page) {
    float* page_residual = scratch_->page_residual.data() + page * count() + begin - first_;
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
    scratch_->page_residual.data()[page * count() + r - first_] = w.sums[page * w.rows + r - begin] / float(own);
  }
}

void SparseTile::DropResidual(const RowResidual& residual, int k) const {
  std::fill(residual.selected_residual, residual.selected_residual + k, 0.0f);
  for (int64_t page = 0; page < pages_; ++page) residual.page_residual[page * residual.stride] = 0;
}

RowResidual SparseTile::Residual(int64_t i) const {
  return {scratch_->selected_residual.data() + i * stride_, scratch_->page_residual.data() + i, count()};
}

float SparseTile::CoarseScale(int64_t r) const {
  const Plan& plan = *job().plan;
  if (const int bucket = job().scores.bucket; bucket > 0) {
    const int q_bucket = (bucket - 1) / plan.k_buckets(), k_bucket = (bucket - 1) % plan.k_buckets();
    return float(double(job().op.softmax_scale) * double(plan.score_scale(q_bucket, k_bucket)));
  }
  const int layer = job().chunk.layer, head = rows_.kv_head();
  const double step =
      CoarseStep(rows_.Query(r), plan.k_variance(layer, head), plan.estimate_multiplier(), job().op.head_dim);
  if (!(step > 0)) return 0.0f;
  return float(double(job().op.softmax_scale) * double(plan.scale(layer, head)) /
               (double(plan.estimate_multiplier()) * step));
}

void SparseTile::SelectTopK(int64_t r, const int32_t* scores) {
  const int64_t causal = rows_.Causal(r), i = r - first_;
  const int64_t k = SelectedCount(settings(), causal, Budget(r));
  const ForcedRanges forced = SplitForced(settings(), causal, k);
  scratch_->counts.data()[i] = int32_t(k);
  int32_t* out = scratch_->selected.data() + i * stride_;
  std::iota(out, out + forced.scored_begin, 0);
  out += forced.scored_begin;
  const int n = int(forced.scored_end - forced.scored_begin);
  const auto offset = int32_t(forced.scored_begin);
  if (coarse()) {
    const int8_t* row = CoarseScores(r) + forced.scored_begin;
    scratch_->select.Reserve(causal + 64);
    job().kernels.select_int8(row, n, int(forced.scored_k), offset, scratch_->select.data(), out);
  } else {
    job().kernels.select_int32(scores + forced.scored_begin, n, int(forced.scored_k), offset, scratch_->select.data(),
                               out);
  }
  out += forced.scored_k;
  std::iota(out, out + (causal - forced.scored_end), int32_t(forced.scored_end));
}

void SparseTile::Attend() {
  const bool compensate = by_threshold() && settings().compensate;
  const KvView view = rows_.view();
  const int64_t padded = PaddedFloats(job().op.head_dim);
  float** out = scratch_->out.Reserve(count());
  for (int64_t i = 0; i < count(); ++i) out[i] = rows_.Out(first_ + i);
  const Selection selected{scratch_->selected.data(), stride_, scratch_->counts.data(), int(count())};
  if (!scores_are_logits()) ExactSoftmax(selected);
  float* start = scratch_->start.data();
  std::fill(start, start + count() * padded, 0.0f);
  ValueTile tile{
      selected, scratch_->weights.data(), stride_, nullptr, count(), nullptr, 0, start, scratch_->factor.data(),
      out,      scores_are_logits()};
  if (compensate) {
    SumOwnPages();
    tile.pages = int(rows_.Longest() / kPageRows);
    tile.page_residual = scratch_->page_residual.data();
    tile.page_sums = SumPages(tile.pages);
  }
  job().kernels.of(view.type).add_values(tile, view);
}

// Exact weights instead of those of the scores. The rest, which only scores know, is scaled as the selected are: by
// sum of the exact weights / sum of the estimated ones.
void SparseTile::ExactSoftmax(const Selection& selected) {
  const KvView view = rows_.view();
  const float* q = LoadQueries(rows_, first_, scratch_);
  float* sums = scratch_->step.Reserve(rows_.count());
  scratch_->attend.Reserve(SparseScratchFloats(int(count()), job().op.head_dim));
  job().kernels.of(view.type).softmax_selected(
      {q, selected, job().op.softmax_scale, scratch_->weights.data(), stride_, sums}, view, scratch_->attend.data());
  for (int64_t i = 0; i < count(); ++i) {
    float total = sums[i];
    if (by_threshold()) {
      const float scale = sums[i] * scratch_->factor.data()[i];
      Compensate(Residual(i), scale, selected.k[i], pages_, scratch_->weights.data() + i * stride_);
      total += scratch_->residual_mass.data()[i] * scale;
    }
    scratch_->factor.data()[i] = 1.0f / total;
  }
}

// The page that holds a row's own position counts up to there: what comes later is the future.
void SparseTile::SumOwnPages() {
  const int d = job().op.head_dim;
  const int64_t padded = PaddedFloats(d);
  const KvView view = rows_.view();
  float* sum = scratch_->prefix.Reserve(padded);
  int64_t summed_page = -1, summed = 0;
  for (int64_t i = 0; i < count(); ++i) {
    const int64_t n = rows_.Causal(first_ + i), page = n / kPageRows, own = n % kPageRows;
    if (own == 0) continue;  // all of it
    if (page != summed_page) {
      std::fill(sum, sum + padded, 0.0f);
      summed_page = page;
      summed = 0;
    }
    job().kernels.of(view.type).sum_values(view.pages[page].v, int(summed), int(own), d, sum);
    summed = own;
    float* page_residual = scratch_->page_residual.data() + page * count() + i;
    float* start = scratch_->start.data() + i * padded;
    for (int64_t c = 0; c < padded; ++c) start[c] = *page_residual * sum[c];
    *page_residual = 0;
  }
}

const float* SparseTile::SumPages(int pages) {
  const int64_t padded = PaddedFloats(job().op.head_dim);
  const KvView view = rows_.view();
  float* sums = scratch_->page_sums.Reserve(pages * padded + 1);
  for (int page = 0; page < pages; ++page) {
    std::memcpy(sums + page * padded, view.pages[page].v_sum, padded * sizeof(float));
  }
  return sums;
}

}  // namespace shadow
