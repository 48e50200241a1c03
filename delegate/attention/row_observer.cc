#include "attention/row_observer.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>

#include "attention/residual.h"
#include "base/magnitude.h"

namespace shadow {
namespace {

constexpr int64_t kErrorEvery = 4;  // positions: errors change slowly, and each threshold costs as much as the row
constexpr int kSlack = 32;          // kernels may read and store this much past the end of a selection

int64_t Pages(int64_t n) { return (n + kPageRows - 1) / kPageRows; }

double SquaredDistance(const float* a, const float* b, int d) {
  double sum = 0;
  for (int c = 0; c < d; ++c) sum += (double(a[c]) - b[c]) * (double(a[c]) - b[c]);
  return sum;
}

}  // namespace

void ObserveRows(const float* values, int64_t count, ObservedRange which, const AttentionJob& job) {
  if (job.observer == nullptr || !job.observer->wants(kObserveRanges)) return;
  job.observer->AddRange(job.chunk().layer, which, LargestMagnitude(values, count));
}

void RowObserver::Softmaxed(int64_t r, const Weights& w) {
  if (!(w.mass > 0)) return;
  if (wants(kObserveHistogram)) observer()->AddHistogram(Place(r), Ascending(w), w.sinks, w.always_from, w.mass);
  if (wants(kObserveErrors) && rows_.Causal(r) % kErrorEvery == 0) Errors(r, w);
}

// From the first position on.
const float* RowObserver::Ascending(const Weights& w) {
  auto* weights = reinterpret_cast<float*>(own_.scores.Reserve(int64_t{w.count} * kPageRows));
  for (int i = 0; i < w.count; ++i) {
    std::memcpy(weights + w.pages[i] * kPageRows, w.blocks + i * kPageRows, kPageRows * sizeof(float));
  }
  return weights;
}

// Attends once for every threshold, and once to everything: the kernels take these for rows of a tile.
void RowObserver::Errors(int64_t r, const Weights& w) {
  constexpr int kAll = kObservedThresholds, kRows = kAll + 1;
  const int d = job().op().head_dim;
  const auto n = int(rows_.Causal(r));
  const int64_t stride = (n + kSlack + 15) / 16 * 16, pages = Pages(n);
  int32_t* positions = own_.selected.Reserve(kRows * stride);
  float* selected_weights = own_.weights.Reserve(kRows * stride);
  float* selected_residual = own_.selected_residual.Reserve(stride);
  float* page_residual = own_.page_residual.Reserve(pages * kRows);
  float* factor = own_.factor.Reserve(kRows);
  int32_t* counts = own_.counts.Reserve(kRows);
  const float* weights = Ascending(w);
  const float mass = std::accumulate(weights, weights + w.sinks, w.mass);
  for (int i = 0; i < kRows; ++i) {
    const float threshold = i == kAll ? FLT_MIN : std::max(ObservedThreshold(i) * w.mass, FLT_MIN);
    float* row_selected = selected_weights + i * stride;
    const RowResidual residual{selected_residual, page_residual + i, kRows};
    for (int64_t page = 0; page < pages; ++page) {
      residual.page_residual[page * kRows] =
          w.sums[page * w.sum_stride] / float(std::min<int64_t>(kPageRows, n - page * kPageRows));
    }
    counts[i] = job().kernels.select_by_threshold({w.blocks, w.pages, w.count, n, threshold, w.sinks, w.always_from,
                                                   positions + i * stride, row_selected, residual.selected_residual,
                                                   residual.page_residual, residual.stride});
    factor[i] = 1.0f / mass;
    if (job().settings.compensate) {
      Compensate(residual, 1.0f, counts[i], pages, row_selected);
    } else {
      for (int64_t page = 0; page < pages; ++page) residual.page_residual[page * kRows] = 0;
      factor[i] = 1.0f / std::accumulate(row_selected, row_selected + counts[i], 0.0f);
    }
  }
  const float* outputs = Attend(kRows, n, stride);
  double errors[kObservedThresholds];
  const float* all = outputs + int64_t{kAll} * d;
  for (int i = 0; i < kObservedThresholds; ++i) errors[i] = SquaredDistance(outputs + int64_t{i} * d, all, d);
  const double norm = std::inner_product(all, all + d, all, 0.0);
  observer()->AddErrors(Place(r), errors, norm);
}

// The outputs [rows][d] of what Errors() left in own_: all for one query with n visible positions.
const float* RowObserver::Attend(int rows, int n, int64_t stride) {
  const int d = job().op().head_dim;
  const int64_t padded = PaddedFloats(d), pages = Pages(n), full = n / kPageRows;
  const KvView view = rows_.view();
  const auto& kernels = job().kernels.of(view.type);
  float* start = own_.start.Reserve(rows * padded);
  float* sums = own_.page_sums.Reserve(full * padded + 1);
  for (int64_t page = 0; page < full; ++page) {
    std::memcpy(sums + page * padded, view.pages[page].v_sum, padded * sizeof(float));
  }
  float* open = own_.prefix.Reserve(padded);
  std::fill(open, open + padded, 0.0f);
  if (full < pages) kernels.sum_values(view.pages[full].v, 0, n % kPageRows, d, open);
  float* outputs = own_.q.Reserve(int64_t{rows} * d);
  float** out = own_.out.Reserve(rows);
  for (int i = 0; i < rows; ++i) {
    const float share = full < pages ? own_.page_residual.data()[full * rows + i] : 0.0f;
    for (int64_t c = 0; c < padded; ++c) start[i * padded + c] = share * open[c];
    out[i] = outputs + int64_t{i} * d;
  }
  const Selection selected{own_.selected.data(), stride, own_.counts.data(), rows};
  const ValueTile tile{selected, own_.weights.data(), stride, own_.page_residual.data(), rows,
                       sums,     int(full),           start,  own_.factor.data(),        out};
  kernels.add_values(tile, view);
  return outputs;
}

void RowObserver::Selected(int64_t r, const int32_t* positions, int k) {
  if (!wants(kObserveHeads) || k < 1) return;
  const auto n = int(rows_.Causal(r));
  const float* scores = ExactScores(r);
  float* sorted = own_.weights.Reserve(n);
  std::copy(scores, scores + n, sorted);
  std::nth_element(sorted, sorted + (k - 1), sorted + n, std::greater<float>());
  const float least = sorted[k - 1], largest = *std::max_element(sorted, sorted + k);
  double total = 0, mass = 0;
  for (int j = 0; j < n; ++j) total += std::exp(double(scores[j]) - largest);
  int found = 0;
  for (int i = 0; i < k; ++i) {
    mass += std::exp(double(scores[positions[i]]) - largest);
    found += scores[positions[i]] >= least ? 1 : 0;
  }
  observer()->AddHead(Place(r), double(k) / n, mass / total, double(std::min(found, k)) / k);
}

// Logits of row r in float32, over whole pages.
const float* RowObserver::ExactScores(int64_t r) {
  const int d = job().op().head_dim;
  const int64_t padded = PaddedFloats(d), pages = Pages(rows_.Causal(r));
  const KvView view = rows_.view();
  float* q = own_.q.Reserve(padded);
  std::copy(rows_.Query(r), rows_.Query(r) + d, q);
  std::fill(q + d, q + padded, 0.0f);
  auto* scores = reinterpret_cast<float*>(own_.scores.Reserve(pages * kPageRows));
  float* memory = own_.attend.Reserve(kPageRows * padded);
  for (int64_t page = 0; page < pages; ++page) {
    const PageScores wanted{q, 1, d, job().op().softmax_scale, scores + page * kPageRows, kPageRows};
    job().kernels.of(view.type).score_page(wanted, view.pages[page].k, memory);
  }
  return scores;
}

void RowObserver::Finished() {
  if (!wants(kObserveRanges)) return;
  const int d = job().op().head_dim, layer = job().chunk().layer;
  for (int64_t r = 0; r < rows_.count(); ++r) {
    observer()->AddRange(layer, kRangeQ, LargestMagnitude(rows_.Query(r), d));
    observer()->AddRange(layer, kRangeOut, LargestMagnitude(rows_.Out(r), d));
  }
  observer()->AddRange(layer, kRangeScore, LargestProduct());
}

// Largest |q . k| of the tile.
float RowObserver::LargestProduct() {
  const int d = job().op().head_dim;
  const KvView view = rows_.view();
  const float* q = LoadQueries(rows_, 0, &own_);
  float* memory = own_.attend.Reserve(int64_t{kPageRows} * PaddedFloats(d));
  auto* scores = reinterpret_cast<float*>(own_.scores.Reserve(rows_.count() * kPageRows));
  float largest = 0;
  for (int64_t page = 0; page < Pages(rows_.Longest()); ++page) {
    const PageScores wanted{q, int(rows_.count()), d, 1.0f, scores, kPageRows};
    job().kernels.of(view.type).score_page(wanted, view.pages[page].k, memory);
    for (int64_t r = 0; r < rows_.count(); ++r) {
      const int64_t visible = std::clamp<int64_t>(rows_.Causal(r) - page * kPageRows, 0, kPageRows);
      largest = std::max(largest, LargestMagnitude(scores + r * kPageRows, visible));
    }
  }
  return largest;
}

}  // namespace shadow
