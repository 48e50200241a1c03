#include "attention/dense_tile.h"

namespace shadow {

void AttendDense(const TileRows& rows, int64_t count, Scratch* scratch, Statistics* statistics) {
  StageClock clock;
  const AttentionJob& job = rows.job();
  const KvView view = rows.view();
  const float* q = LoadQueries(rows, 0, scratch);
  int32_t* causal = scratch->counts.Reserve(count);
  float** out = scratch->out.Reserve(count);
  for (int64_t r = 0; r < count; ++r) {
    causal[r] = int32_t(rows.Causal(r));
    out[r] = rows.Out(r);
    statistics->value_rows_read += causal[r];
  }
  float* memory = scratch->attend.Reserve(AttendDenseScratchFloats(int(count), job.op().head_dim));
  job.kernels.of(view.type).attend_dense({q, causal, out, int(count), job.op().softmax_scale}, view, memory);
  statistics->seconds_attend += clock.Lap();
}

// `first` is 0: the mode leaves no rows to others.
void RunDenseTile(const TileRows& rows, int64_t, Scratch* scratch, Statistics* statistics) {
  AttendDense(rows, rows.count(), scratch, statistics);
}

}  // namespace shadow
