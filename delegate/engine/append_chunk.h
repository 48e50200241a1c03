// What shadow_append of the C ABI does.
#ifndef SHADOWATTN_DELEGATE_ENGINE_APPEND_CHUNK_H_
#define SHADOWATTN_DELEGATE_ENGINE_APPEND_CHUNK_H_

#include "estimate/estimate_inputs.h"

namespace shadow {

// Puts the chunk's k and v into the cache and writes what estimate graphs read; estimate null: they read nothing.
// Whatever can be refused is refused before the cache changes.
Status AppendChunk(const OpOptions& op, const OpInputs& in, const EstimateInputs* estimate, Engine* engine,
                   KvCache* cache);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ENGINE_APPEND_CHUNK_H_
