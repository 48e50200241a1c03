#include "attention/int8_scores.h"

#include <algorithm>
#include <cstring>

#include "attention/page_skipping.h"

namespace shadow {
namespace {

// Numbers of four bytes that are stored at a time: 576 KB of scores; more of weights, most of whose pages are not
// listed; and more again where rows skip pages, so that some rows score each page.
constexpr int64_t kScoreBudget = 18 << 13;
constexpr int64_t kWeightBudget = 24 << 13;
constexpr int64_t kSkippingBudget = 60 << 13;
constexpr int64_t kQueryRows = 6;  // that the estimate kernels work on at once

int64_t RowsWithin(int64_t budget, const TileRows& rows) {
  const int64_t fit = budget / ScoreStride(rows, rows.count()) / kQueryRows * kQueryRows;
  return std::clamp(fit, kQueryRows, std::max(kQueryRows, rows.count()));
}

}  // namespace

int64_t ScoreStride(const TileRows& rows, int64_t end) {
  return (rows.Causal(end - 1) + kPageRows - 1) / kPageRows * kPageRows;
}

int64_t RowsScored(const TileRows& rows) { return RowsWithin(kScoreBudget, rows); }

int64_t RowsPerSoftmax(const TileRows& rows) {
  return RowsWithin(MaySkipPages(rows, rows.count()) ? kSkippingBudget : kWeightBudget, rows);
}

void QuantizeRows(const TileRows& rows, int64_t begin, int64_t end, Scratch* scratch) {
  const AttentionJob& job = rows.job();
  const int d = job.op().head_dim, d_padded = PaddedBytes(d);
  const int64_t count = end - begin;
  int8_t* q_i8 = scratch->q_i8.Reserve(count * d_padded);
  int32_t* q_sum = scratch->q_sum.Reserve(count);
  float* step = scratch->step.Reserve(rows.count());
  std::memset(q_i8, 0, count * d_padded);
  const float k_step = job.plan->scale(job.chunk().layer, rows.kv_head()) * job.op().softmax_scale;
  for (int64_t r = 0; r < count; ++r) {
    const float* q = rows.Query(begin + r);
    float largest;
    q_sum[r] = job.kernels.quantize_query(q, d, q_i8 + r * d_padded, &largest);
    step[begin + r] = largest / 127.0f * k_step;
  }
}

void ScoreInt8(const TileRows& rows, int64_t begin, int64_t end, int64_t stride, Scratch* scratch) {
  const AttentionJob& job = rows.job();
  const int d_padded = PaddedBytes(job.op().head_dim);
  const KvView view = rows.view();
  QuantizeRows(rows, begin, end, scratch);
  int64_t first = 0;
  for (int64_t page = 0; page * kPageRows < rows.Causal(end - 1); ++page) {
    while (rows.Causal(begin + first) <= page * kPageRows) ++first;  // rows that end before this page
    job.kernels.estimate(
        {scratch->q_i8.data() + first * d_padded, scratch->q_sum.data() + first, int(end - begin - first)},
        view.pages[page].k_u8, d_padded, scratch->scores.data() + first * stride + page * kPageRows, stride);
  }
}

}  // namespace shadow
