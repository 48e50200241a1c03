#include "engine/append_chunk.h"

#include "cache/append_rows.h"

namespace shadow {

Status AppendChunk(const OpOptions& op, const OpInputs& in, const EstimateInputs* estimate, Engine* engine,
                   KvCache* cache) {
  SHADOW_RETURN_IF_ERROR(cache->CheckChunk(in.chunk));
  if (estimate != nullptr) {
    SHADOW_RETURN_IF_ERROR(CheckFitsBucket(in.chunk, estimate->seq_len));
    if (engine->plan() != nullptr) SHADOW_RETURN_IF_ERROR(CheckScales(*engine->plan(), estimate->scales));
  }
  SHADOW_RETURN_IF_ERROR(CheckValues(in, op, cache->settings().cache_type));
  SHADOW_RETURN_IF_ERROR(AppendRows({in.k, in.v, op.num_kv_heads, op.head_dim}, in.chunk, engine->plan(),
                                    engine->kernels(), &engine->pool(), cache));
  if (estimate != nullptr) SHADOW_RETURN_IF_ERROR(WriteEstimateInputs(op, in, *estimate, engine, cache));
  cache->Commit(in.chunk);
  return Status::Ok();
}

}  // namespace shadow
