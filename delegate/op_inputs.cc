#include "op_inputs.h"

namespace shadow {
namespace {

Status CheckScalar(const NodeIo& io, int index, const char* name) {
  return index < 0 ? Status::Ok() : io.CheckInput(index, name, tflite::kInt32, {1});
}

Status ReadOptionalScalar(const NodeIo& io, int index, const char* name, int32_t* value) {
  return index < 0 ? Status::Ok() : io.ReadScalar(index, name, value);
}

Status ReadOptionalRows(const NodeIo& io, int index, const char* name, int64_t count, const float** rows) {
  return index < 0 ? Status::Ok() : io.Read(index, name, count, rows);
}

}  // namespace

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

Status CheckInputShapes(const NodeIo& io, const InputMap& map, const OpOptions& op) {
  SHADOW_RETURN_IF_ERROR(io.CheckInput(map.q, "q", tflite::kFloat32, {1, kAnySize, op.num_heads, op.head_dim}));
  const int64_t time = io.InputDim(map.q, 1);
  if (map.k >= 0) {
    SHADOW_RETURN_IF_ERROR(io.CheckInput(map.k, "k", tflite::kFloat32, {1, time, op.num_kv_heads, op.head_dim}));
    SHADOW_RETURN_IF_ERROR(io.CheckInput(map.v, "v", tflite::kFloat32, {1, time, op.num_kv_heads, op.head_dim}));
  }
  SHADOW_RETURN_IF_ERROR(CheckScalar(io, map.position, "position"));
  SHADOW_RETURN_IF_ERROR(CheckScalar(io, map.n_valid, "n_valid"));
  SHADOW_RETURN_IF_ERROR(CheckScalar(io, map.cache, "cache"));
  SHADOW_RETURN_IF_ERROR(CheckScalar(io, map.layer, "layer"));
  return CheckScalar(io, map.kv_len, "kv_len");
}

Status ReadInputs(const NodeIo& io, const InputMap& map, const OpOptions& op, bool benchmark, OpInputs* inputs) {
  OpInputs in;
  in.time = io.InputDim(map.q, 1);
  const int64_t q_count = in.time * op.num_heads * op.head_dim;
  const int64_t kv_count = in.time * op.num_kv_heads * op.head_dim;
  SHADOW_RETURN_IF_ERROR(ReadOptionalRows(io, map.q, "q", q_count, &in.q));
  SHADOW_RETURN_IF_ERROR(ReadOptionalRows(io, map.k, "k", kv_count, &in.k));
  SHADOW_RETURN_IF_ERROR(ReadOptionalRows(io, map.v, "v", kv_count, &in.v));
  int32_t position = 0;
  int32_t n_valid = 0;
  int32_t layer = op.layer;
  SHADOW_RETURN_IF_ERROR(ReadOptionalScalar(io, map.position, "position", &position));
  SHADOW_RETURN_IF_ERROR(ReadOptionalScalar(io, map.n_valid, "n_valid", &n_valid));
  SHADOW_RETURN_IF_ERROR(ReadOptionalScalar(io, map.cache, "cache", &in.cache));
  SHADOW_RETURN_IF_ERROR(ReadOptionalScalar(io, map.layer, "layer", &layer));
  SHADOW_RETURN_IF_ERROR(ReadOptionalScalar(io, map.kv_len, "kv_len", &in.kv_len));
  in.chunk = {layer, position, n_valid};
  if (!benchmark) SHADOW_RETURN_IF_ERROR(CheckRange(in, op));
  *inputs = in;
  return Status::Ok();
}

Status CheckValues(const OpInputs& in, const OpOptions& op, CacheType type) {
  SHADOW_RETURN_IF_ERROR(CheckFinite({"q", in.q, op.num_heads, op.head_dim, CacheType::kFloat32}, in.chunk));
  if (in.k == nullptr) return Status::Ok();
  SHADOW_RETURN_IF_ERROR(CheckFinite({"k", in.k, op.num_kv_heads, op.head_dim, type}, in.chunk));
  return CheckFinite({"v", in.v, op.num_kv_heads, op.head_dim, type}, in.chunk);
}

}  // namespace shadow
