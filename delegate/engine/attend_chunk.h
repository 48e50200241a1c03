// What both forms of attending do: the op of a graph, and shadow_attend of the C ABI.
#ifndef SHADOWATTN_DELEGATE_ENGINE_ATTEND_CHUNK_H_
#define SHADOWATTN_DELEGATE_ENGINE_ATTEND_CHUNK_H_

#include "attention/attention_job.h"
#include "engine/engine.h"
#include "engine/op_inputs.h"

namespace shadow {

// Which heads, by which scores.
struct AttendPart {
  HeadGroup heads;
  GraphScores scores;
  bool may_share = true;  // false: on the calling thread only
};

// The chunk's rows are in the cache. Writes rows 0 .. n_valid - 1 of the part's heads to out [T][H*d].
Status AttendChunk(const OpOptions& op, const OpInputs& in, const AttendPart& part, float* out, Engine* engine,
                   KvCache* cache);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ENGINE_ATTEND_CHUNK_H_
