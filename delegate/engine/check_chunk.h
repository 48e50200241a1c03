// What can be refused of a chunk before a cache changes, but for the cache's own rules (KvCache::CheckChunk).
#ifndef SHADOWATTN_DELEGATE_ENGINE_CHECK_CHUNK_H_
#define SHADOWATTN_DELEGATE_ENGINE_CHECK_CHUNK_H_

#include <cstdint>

#include "base/status.h"
#include "cache/attention_backend.h"
#include "cache/chunk.h"
#include "config/plan.h"
#include "config/settings.h"
#include "kernels/layout.h"

namespace shadow {

// n_valid within T, layer within the model.
Status CheckRange(const ChunkInputs& in);
// Refuses NaN and infinity in the valid rows of q, k and v, and k and v that the cache cannot hold.
Status CheckValues(const ChunkInputs& in, CacheType type);
// Whether the rows, once the chunk is appended, fit graphs of S = seq_len.
Status CheckFitsBucket(const Chunk& chunk, int64_t seq_len);
// Refuses scales that the plan does not have. plan: may be null.
Status CheckScales(const Plan* plan, Scales scales);
// Whether these heads may attend by these scores. settings: of the cache.
Status CheckPart(const ChunkInputs& in, const AttendPart& part, const CacheSettings& settings, const Plan* plan);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ENGINE_CHECK_CHUNK_H_
