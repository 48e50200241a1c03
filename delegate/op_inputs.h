// The inputs both ops share: q, k, v and the integers that say which rows of which cache are meant.
#ifndef SHADOWATTN_DELEGATE_OP_INPUTS_H_
#define SHADOWATTN_DELEGATE_OP_INPUTS_H_

#include <cstdint>

#include "engine.h"
#include "node_io.h"
#include "op_options.h"
#include "status.h"

namespace shadow {

// Index of each input in its node; -1: the node does not have it.
struct InputMap {
  int q = 0;
  int k = -1;
  int v = -1;
  int position = -1;
  int n_valid = -1;
  int cache = -1;
  int layer = -1;
  int kv_len = -1;
};

// One Eval's inputs, all in range except for what only the cache can tell.
struct OpInputs {
  const float* q = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
  int64_t time = 0;  // T
  int32_t cache = 0;
  int32_t kv_len = 0;
  Chunk chunk{0, 0, 0};
};

Status CheckInputShapes(const NodeIo& io, const InputMap& map, const OpOptions& op);
// Under `benchmark` integers out of range pass: the engine clamps them.
Status ReadInputs(const NodeIo& io, const InputMap& map, const OpOptions& op, bool benchmark, OpInputs* inputs);
// n_valid within T, layer within the model.
Status CheckRange(const OpInputs& inputs, const OpOptions& op);
// NaN and infinity in the valid rows of what there is of q, k and v.
Status CheckValues(const OpInputs& inputs, const OpOptions& op, CacheType type);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_OP_INPUTS_H_
