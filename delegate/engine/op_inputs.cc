#include "engine/op_inputs.h"

#include "cache/append_rows.h"

namespace shadow {

Status CheckRange(const OpInputs& in, const OpOptions& op) {
  if (in.chunk.n_valid < 1 || in.chunk.n_valid > in.time) {
    return Status::Error("n_valid must be in 1..%lld, got %lld; it counts the rows that are not padding",
                         static_cast<long long>(in.time), static_cast<long long>(in.chunk.n_valid));
  }
  if (in.chunk.layer < 0 || in.chunk.layer >= op.num_layers) {
    return Status::Error("layer must be in 0..%d, got %d", op.num_layers - 1, in.chunk.layer);
  }
  return Status::Ok();
}

Status CheckValues(const OpInputs& in, const OpOptions& op, CacheType type) {
  SHADOW_RETURN_IF_ERROR(CheckFinite({"q", in.q, op.num_heads, op.head_dim, CacheType::kFloat32}, in.chunk));
  if (in.k == nullptr) return Status::Ok();
  SHADOW_RETURN_IF_ERROR(CheckFinite({"k", in.k, op.num_kv_heads, op.head_dim, type}, in.chunk));
  return CheckFinite({"v", in.v, op.num_kv_heads, op.head_dim, type}, in.chunk);
}

}  // namespace shadow
