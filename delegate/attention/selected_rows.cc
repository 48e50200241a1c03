#include "attention/selected_rows.h"

#include <algorithm>

namespace shadow {
namespace {

constexpr int64_t kSlack = 32;  // kernels may read and store this much past the end of a selection

constexpr int64_t RoundUp(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace

SelectedRows::SelectedRows(const TileRows& rows, int64_t first, int64_t most, Scratch* scratch)
    : rows_(rows),
      first_(first),
      count_(rows.count() - first),
      padded_(PaddedFloats(rows.job().op().head_dim)),
      stride_(RoundUp(most + kSlack, 16)),
      scratch_(scratch) {
  scratch->selected.Reserve(count_ * stride_);
  scratch->weights.Reserve(count_ * stride_);
  scratch->counts.Reserve(count_);
  scratch->factor.Reserve(count_);
  float* start = scratch->start.Reserve(count_ * padded_);
  std::fill(start, start + count_ * padded_, 0.0f);
  float** out = scratch->out.Reserve(count_);
  for (int64_t i = 0; i < count_; ++i) out[i] = rows.Out(first + i);
}

const float* SelectedRows::ComputeExactWeights() {
  const AttentionJob& job = rows_.job();
  const KvView view = rows_.view();
  const float* q = LoadQueries(rows_, first_, scratch_);
  float* sums = scratch_->step.Reserve(rows_.count());
  float* memory = scratch_->attend.Reserve(SparseScratchFloats(int(count_), job.op().head_dim));
  job.kernels.of(view.type).softmax_selected(
      {q, selection(), job.op().softmax_scale, scratch_->weights.data(), stride_, sums}, view, memory);
  return sums;
}

ValueTile SelectedRows::Tile() const {
  return {selection(),
          scratch_->weights.data(),
          stride_,
          nullptr,
          count_,
          nullptr,
          0,
          scratch_->start.data(),
          scratch_->factor.data(),
          scratch_->out.data()};
}

void SelectedRows::Count(Statistics* statistics) const {
  for (int64_t i = 0; i < count_; ++i) statistics->value_rows_read += size(i);
}

}  // namespace shadow
