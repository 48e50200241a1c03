#include "tflite/sparse_attention_op.h"

namespace shadow {
namespace {

enum Input { kQ, kK, kV, kPosition, kNumValid, kCache, kNumInputs };

Status ReadInputs(const NodeIo& io, const OpOptions& op, ChunkInputs* in) {
  in->op = op;
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
  ChunkInputs in;
  SHADOW_RETURN_IF_ERROR(ReadInputs(io, options_, &in));
  float* out = nullptr;
  SHADOW_RETURN_IF_ERROR(io.Write(0, "o", in.time * options_.num_heads * options_.head_dim, &out));
  return engine->Run(in, out);
}

}  // namespace shadow
