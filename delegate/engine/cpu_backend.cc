#include "engine/cpu_backend.h"

#include <optional>

#include "attention/attention_job.h"
#include "attention/row_observer.h"
#include "attention/run_attention.h"
#include "attention/thresholds.h"
#include "cache/append_rows.h"
#include "engine/modes.h"
#include "estimate/estimate_inputs.h"

namespace shadow {
namespace {

// The rows are whole where one call appends and attends; what only attends has them in the cache.
void ObserveNewRows(const ChunkInputs& in, const AttentionJob& job) {
  if (in.k == nullptr || in.v == nullptr) return;
  const int64_t count = in.chunk.n_valid * in.op.num_kv_heads * in.op.head_dim;
  ObserveRows(in.k, count, kRangeK, job);
  ObserveRows(in.v, count, kRangeV, job);
}

}  // namespace

void CpuBackend::Configure(const CacheSettings& settings) {
  if (settings.mode != settings_.mode) pages_.derived().Clear();
  settings_ = settings;
}

void CpuBackend::Append(const ChunkInputs& in, const EstimateInputs* estimate, Statistics* statistics) {
  StageClock clock;
  CpuResources& r = resources_;
  pages_.Prepare(in.chunk, settings_.max_skipped_mass > 0);
  statistics->k_saturated += AppendRows(in, r.plan, r.kernels, &r.pool, &pages_);
  if (estimate != nullptr) WriteEstimateInputs(in, *estimate, r.plan, r.kernels, pages_, &r.pool);
  statistics->seconds_append += clock.Lap();
}

void CpuBackend::Attend(const ChunkInputs& in, const AttendPart& part, float* out, Observer* observer,
                        Statistics* statistics) {
  CpuResources& r = resources_;
  std::optional<Thresholds> thresholds;
  if (r.plan != nullptr) thresholds.emplace(settings_, *r.plan);
  const AttentionJob job{in,        part,
                         settings_, RunningMode(settings_),
                         r.plan,    thresholds ? &*thresholds : nullptr,
                         r.kernels, pages_,
                         r.pool,    r.scratch,
                         out,       observer};
  if (observer != nullptr) {
    observer->Bind(in.op);
    ObserveNewRows(in, job);
  }
  RunAttention(job, statistics);
}

}  // namespace shadow
