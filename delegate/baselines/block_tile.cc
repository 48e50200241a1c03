#include "baselines/block_tile.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <numeric>

#include "baselines/top_k.h"

namespace shadow {

size_t KeySumBytes(int head_dim) { return AlignUp(PaddedFloats(head_dim) * sizeof(float)); }

void MakeKeySum(const AttentionJob& job, int kv_head, int64_t page, uint8_t* memory, Scratch*) {
  const int d = job.op().head_dim;
  const KvView view = job.pages.view(job.chunk().layer, kv_head);
  auto* sum = reinterpret_cast<float*>(memory);
  std::fill(sum, sum + PaddedFloats(d), 0.0f);
  job.kernels.of(view.type).sum_values(view.pages[page].k, 0, kPageRows, d, sum);
}

int64_t SelectedPages(const CacheSettings& settings, int64_t visible) {
  const double keep_ratio = settings.keep_ratio == kAutoKeepRatio ? kPaperKeepRatio : settings.keep_ratio;
  const auto share = int64_t(std::ceil(keep_ratio * double(visible)));
  return std::min(std::max<int64_t>(share, 2), visible);  // the first page, and the block's own
}

void BlockTile::Run(Statistics* statistics) {
  for (int64_t head = 0; head < job().op().group(); ++head) {
    StageClock clock;
    const int64_t pages = SelectPages(head);
    statistics->seconds_estimate += clock.Lap();
    Attend(head, pages, statistics);
    statistics->seconds_attend += clock.Lap();
  }
}

// Over all rows of the block, also those before first_.
void BlockTile::MeanQuery(int64_t head, double* mean) const {
  const int d = job().op().head_dim;
  std::fill(mean, mean + d, 0.0);
  for (int64_t r = head; r < rows_.count(); r += job().op().group()) {
    for (int c = 0; c < d; ++c) mean[c] += double(rows_.Query(r)[c]);
  }
  for (int c = 0; c < d; ++c) mean[c] /= double(rows_.count() / job().op().group());
}

// Returns how many pages the block selects; scratch->selected lists them, ascending. In float64 and a fixed order, so
// that every machine selects the same.
int64_t BlockTile::SelectPages(int64_t head) {
  const int d = job().op().head_dim;
  const int64_t own = own_page(), selected = SelectedPages(job().settings, own + 1);
  double mean[kMaxHeadDim];
  MeanQuery(head, mean);
  double* scores = scratch_->block_scores.Reserve(own + 1);
  for (int64_t page = 1; page < own; ++page) {
    const auto* sum =
        reinterpret_cast<const float*>(job().pages.derived().page(job().chunk().layer, rows_.kv_head(), page));
    double score = 0;
    for (int c = 0; c < d; ++c) score += mean[c] * double(sum[c]);
    scores[page] = std::isfinite(score) ? score : -DBL_MAX;  // a sum of huge keys
  }
  // What is common to all scores, 1 / 64 and the softmax scale, changes no order.
  int32_t* pages = scratch_->selected.Reserve(own + 1);
  std::iota(pages, pages + own + 1, 0);
  const auto better = [&](int32_t a, int32_t b) { return scores[a] != scores[b] ? scores[a] > scores[b] : a > b; };
  if (selected <= own) {
    std::nth_element(pages + 1, pages + selected - 1, pages + own, better);
    std::sort(pages + 1, pages + selected - 1);
    pages[selected - 1] = int32_t(own);
  }
  return selected;
}

// The selected pages are given to the kernel as a shorter cache, in which a row ends at its own position of the last
// page.
void BlockTile::Attend(int64_t head, int64_t pages, Statistics* statistics) {
  const int d = job().op().head_dim;
  const int64_t group = job().op().group(), padded = PaddedFloats(d);
  const KvView view = rows_.view();
  KvPage* selected = scratch_->pages.Reserve(pages);
  for (int64_t i = 0; i < pages; ++i) selected[i] = view.pages[scratch_->selected.data()[i]];
  float* q = scratch_->q.Reserve(rows_.count() / group * padded);
  int32_t* causal = scratch_->counts.Reserve(rows_.count() / group);
  float** out = scratch_->out.Reserve(rows_.count() / group);
  int count = 0;
  for (int64_t r = head; r < rows_.count(); r += group) {
    if (r < first_) continue;
    LoadQuery(rows_, r, q + count * padded);
    causal[count] = int32_t((pages - 1 - own_page()) * kPageRows + rows_.Causal(r));
    statistics->value_rows_read += causal[count];
    out[count++] = rows_.Out(r);
  }
  if (count == 0) return;
  float* memory = scratch_->attend.Reserve(AttendDenseScratchFloats(count, d));
  job().kernels.of(view.type).attend_dense({q, causal, out, count, job().op().softmax_scale}, {selected, d, view.type},
                                           memory);
}

void RunBlockTile(const TileRows& rows, int64_t first, Scratch* scratch, Statistics* statistics) {
  BlockTile(rows, first, scratch).Run(statistics);
}

}  // namespace shadow
