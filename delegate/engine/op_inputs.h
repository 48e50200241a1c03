// What one call brings: q, k, v and the integers that say which rows of which cache are meant.
#ifndef SHADOWATTN_DELEGATE_ENGINE_OP_INPUTS_H_
#define SHADOWATTN_DELEGATE_ENGINE_OP_INPUTS_H_

#include <cstdint>

#include "base/status.h"
#include "cache/kv_cache.h"
#include "config/op_options.h"

namespace shadow {

struct OpInputs {
  const float* q = nullptr;  // [T][H][d]
  const float* k = nullptr;  // [T][N_kv][d]; null: the cache holds the chunk's rows already
  const float* v = nullptr;
  int64_t time = 0;  // T
  int32_t cache = 0;
  Chunk chunk{0, 0, 0};
};

// n_valid within T, layer within the model.
Status CheckRange(const OpInputs& inputs, const OpOptions& op);
// Refuses NaN and infinity in the valid rows of what there is of q, k and v, and k and v that the cache cannot hold.
Status CheckValues(const OpInputs& inputs, const OpOptions& op, CacheType type);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ENGINE_OP_INPUTS_H_
