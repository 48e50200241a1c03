#include "int8_scores.h"

#include <algorithm>
#include <cstring>

#include "magnitude.h"

namespace shadow {
namespace {

constexpr int64_t kScoreBudget = 1 << 16;  // scores at a time: 256 KB, which stay in a second-level cache

}  // namespace

int64_t ScoreStride(const TileRows& rows, int64_t end) {
  return (rows.Causal(end - 1) + kPageRows - 1) / kPageRows * kPageRows;
}

int64_t RowsScored(const TileRows& rows) {
  return std::max<int64_t>(8, kScoreBudget / ScoreStride(rows, rows.count()));
}

void ScoreInt8(const TileRows& rows, int64_t begin, int64_t end, int64_t stride, Scratch* scratch) {
  const AttentionJob& job = rows.job();
  const int d = job.op.head_dim, d_padded = PaddedBytes(d);
  const int64_t count = end - begin;
  const KvView view = rows.view();
  int8_t* q_i8 = scratch->q_i8.Reserve(count * d_padded);
  int32_t* q_sum = scratch->q_sum.Reserve(count);
  float* step = scratch->step.Reserve(rows.count());
  std::memset(q_i8, 0, count * d_padded);
  const float k_step = job.plan->scale(job.chunk.layer, rows.kv_head()) * job.op.softmax_scale;
  for (int64_t r = 0; r < count; ++r) {
    const float* q = rows.Query(begin + r);
    q_sum[r] = job.kernels.quantize_query(q, d, q_i8 + r * d_padded);
    step[begin + r] = LargestMagnitude(q, d) / 127.0f * k_step;
  }
  int64_t first = 0;
  for (int64_t page = 0; page * kPageRows < rows.Causal(end - 1); ++page) {
    while (rows.Causal(begin + first) <= page * kPageRows) ++first;  // rows that end before this page
    job.kernels.estimate(q_i8 + first * d_padded, q_sum + first, int(count - first), view.pages[page].k_u8, d_padded,
                         scratch->scores.data() + first * stride + page * kPageRows, stride);
  }
}

}  // namespace shadow
