// The 40 option bytes of ShadowSparseAttention (docs/op_spec.md, option bytes): the C++ twin of models/op_options.py.
#ifndef SHADOWATTN_DELEGATE_CONFIG_OP_OPTIONS_H_
#define SHADOWATTN_DELEGATE_CONFIG_OP_OPTIONS_H_

#include <cstddef>
#include <cstdint>

#include "base/status.h"

namespace shadow {

inline constexpr size_t kOpOptionsSize = 40;
inline constexpr uint16_t kOpOptionsVersion = 1;
inline constexpr uint16_t kFused = 1;  // the only flag: the op appends k and v, and attends

// Static facts of one op: its layer, and the model that the layer belongs to.
struct OpOptions {
  int32_t layer = 0;
  int32_t num_layers = 0;
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  float softmax_scale = 0;

  int32_t group() const { return num_heads / num_kv_heads; }  // query heads that share a KV head
};

// Refuses bytes that are truncated, not ours, newer, damaged, or hold impossible numbers.
Status DecodeOpOptions(const void* data, size_t size, OpOptions* options);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_CONFIG_OP_OPTIONS_H_
