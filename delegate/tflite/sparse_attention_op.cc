#include "tflite/sparse_attention_op.h"

#include <algorithm>

#include "cache/append_rows.h"
#include "engine/attend_chunk.h"
#include "engine/op_inputs.h"

namespace shadow {
namespace {

enum Input { kQ, kK, kV, kPosition, kNumValid, kCache, kNumInputs };

Status ReadInputs(const NodeIo& io, const OpOptions& op, OpInputs* in) {
  in->time = io.InputDim(kQ, 1);
  const int64_t kv_count = in->time * op.num_kv_heads * op.head_dim;
  SHADOW_RETURN_IF_ERROR(io.Read(kQ, "q", in->time * op.num_heads * op.head_dim, &in->q));
  SHADOW_RETURN_IF_ERROR(io.Read(kK, "k", kv_count, &in->k));
  SHADOW_RETURN_IF_ERROR(io.Read(kV, "v", kv_count, &in->v));
  int32_t position = 0, n_valid = 0;
  SHADOW_RETURN_IF_ERROR(io.ReadScalar(kPosition, "position", &position));
  SHADOW_RETURN_IF_ERROR(io.ReadScalar(kNumValid, "n_valid", &n_valid));
  SHADOW_RETURN_IF_ERROR(io.ReadScalar(kCache, "cache", &in->cache));
  in->chunk = {op.layer, position, n_valid};
  return Status::Ok();
}

}  // namespace

Status SparseAttentionOp::CheckShapes(const NodeIo& io) const {
  SHADOW_RETURN_IF_ERROR(io.CheckCounts(kNumInputs, 1));
  SHADOW_RETURN_IF_ERROR(
      io.CheckInput(kQ, "q", tflite::kFloat32, {1, kAnySize, options_.num_heads, options_.head_dim}));
  const int64_t time = io.InputDim(kQ, 1);
  SHADOW_RETURN_IF_ERROR(io.CheckInput(kK, "k", tflite::kFloat32, {1, time, options_.num_kv_heads, options_.head_dim}));
  SHADOW_RETURN_IF_ERROR(io.CheckInput(kV, "v", tflite::kFloat32, {1, time, options_.num_kv_heads, options_.head_dim}));
  SHADOW_RETURN_IF_ERROR(io.CheckInput(kPosition, "position", tflite::kInt32, {1}));
  SHADOW_RETURN_IF_ERROR(io.CheckInput(kNumValid, "n_valid", tflite::kInt32, {1}));
  return io.CheckInput(kCache, "cache", tflite::kInt32, {1});
}

Status SparseAttentionOp::Prepare(tflite::Context* context) const {
  NodeIo io(context, inputs_, outputs_);
  SHADOW_RETURN_IF_ERROR(CheckShapes(io));
  return io.ShapeOutput(0, "o", tflite::kFloat32,
                        {1, io.InputDim(kQ, 1), int64_t{options_.num_heads} * options_.head_dim});
}

Status SparseAttentionOp::Eval(tflite::Context* context, Engine* engine) const {
  NodeIo io(context, inputs_, outputs_);
  SHADOW_RETURN_IF_ERROR(CheckShapes(io));
  OpInputs in;
  SHADOW_RETURN_IF_ERROR(ReadInputs(io, options_, &in));
  if (!engine->benchmark()) SHADOW_RETURN_IF_ERROR(CheckRange(in, options_));
  const int64_t width = int64_t{options_.num_heads} * options_.head_dim;
  float* out = nullptr;
  SHADOW_RETURN_IF_ERROR(io.Write(0, "o", in.time * width, &out));
  CacheLease cache;
  SHADOW_RETURN_IF_ERROR(engine->Open(in.cache, options_, &cache));
  if (engine->benchmark()) SHADOW_RETURN_IF_ERROR(engine->PrepareBenchmark(options_, in.time, &*cache, &in.chunk));
  // Everything that can be refused is refused before the cache changes.
  SHADOW_RETURN_IF_ERROR(cache->CheckChunk(in.chunk));
  SHADOW_RETURN_IF_ERROR(CheckValues(in, options_, cache->settings().cache_type));
  SHADOW_RETURN_IF_ERROR(AppendRows({in.k, in.v, options_.num_kv_heads, options_.head_dim}, in.chunk, engine->plan(),
                                    engine->kernels(), &engine->pool(), &*cache));
  SHADOW_RETURN_IF_ERROR(AttendChunk(options_, in, {HeadGroup::All(options_), {}}, out, engine, &*cache));
  std::fill(out + in.chunk.n_valid * width, out + in.time * width, 0.0f);
  cache->Commit(in.chunk);
  return Status::Ok();
}

}  // namespace shadow
