#include "engine/attend_chunk.h"

#include "attention/run_attention.h"
#include "observe/row_observer.h"

namespace shadow {
namespace {

// k and v are whole in the fused form only: what attends otherwise takes them from the cache.
void ObserveNewRows(const OpInputs& in, const AttentionJob& job) {
  if (in.k == nullptr || in.v == nullptr) return;
  const int64_t count = job.chunk.n_valid * job.op.num_kv_heads * job.op.head_dim;
  ObserveRows(in.k, count, kRangeK, job);
  ObserveRows(in.v, count, kRangeV, job);
}

}  // namespace

Status AttendChunk(const OpOptions& op, const OpInputs& in, const AttendPart& part, float* out, Engine* engine,
                   KvCache* cache) {
  Thresholds thresholds;
  const CacheSettings& settings = cache->settings();
  if (engine->plan() != nullptr) SHADOW_RETURN_IF_ERROR(Thresholds::Create(settings, *engine->plan(), &thresholds));
  const AttentionJob job{op,
                         engine->kernels(),
                         *cache,
                         engine->plan(),
                         &thresholds,
                         engine->ThresholdFactors(*cache, in.chunk.layer),
                         settings,
                         in.chunk,
                         in.time,
                         in.q,
                         out,
                         part.heads,
                         part.scores,
                         cache->observer(),
                         part.may_share};
  if (job.observer != nullptr) {
    job.observer->Bind(op);
    ObserveNewRows(in, job);
  }
  Statistics more;
  SHADOW_RETURN_IF_ERROR(RunAttention(job, &engine->pool(), &more));
  cache->AddStatistics(more);
  return Status::Ok();
}

}  // namespace shadow
