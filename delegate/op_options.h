// The 40 option bytes of the custom ops (docs/op_spec.md, option bytes): the C++ twin of models/op_options.py.
#ifndef SHADOWATTN_DELEGATE_OP_OPTIONS_H_
#define SHADOWATTN_DELEGATE_OP_OPTIONS_H_

#include <cstddef>
#include <cstdint>

#include "status.h"

namespace shadow {

inline constexpr size_t kOpOptionsSize = 40;
inline constexpr uint16_t kOpOptionsVersion = 1;
inline constexpr uint16_t kFormFused = 1;
inline constexpr uint16_t kFormScores = 2;
inline constexpr uint16_t kFormLayerInput = 4;

struct OpOptions {
  uint16_t form = 0;
  int32_t layer = -1;  // -1: the layer is an input
  int32_t num_layers = 0;
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  float softmax_scale = 0;
  int32_t seq_len = 0;  // S of ShadowKvAppend, else 0

  int32_t group() const { return num_heads / num_kv_heads; }
};

// Refuses a blob that is truncated, not ours, newer, damaged, or holds impossible numbers.
Status DecodeOpOptions(const void* data, size_t size, OpOptions* options);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_OP_OPTIONS_H_
