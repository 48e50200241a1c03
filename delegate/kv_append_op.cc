#include "kv_append_op.h"

#include "append_chunk.h"

namespace shadow {
namespace {

constexpr InputMap kInputs{0, 1, 2, 3, 4, 5, 6, -1};
}  // namespace

Status KvAppendOp::Create(const OpOptions& options, const NodeIo& io, std::unique_ptr<Op>* op) {
  if (options.form != kFormLayerInput) {
    return Status::Error("flags must be %d, got %d; convert the model again", kFormLayerInput, options.form);
  }
  if (options.seq_len < 1) {
    return Status::Error("seq_len must be positive, got %d; convert the model again", options.seq_len);
  }
  op->reset(new KvAppendOp(options, io));
  return Status::Ok();
}

Status KvAppendOp::Prepare() {
  SHADOW_RETURN_IF_ERROR(io_.CheckCounts(7, 3));
  SHADOW_RETURN_IF_ERROR(CheckInputShapes(io_, kInputs, options_));
  const int64_t rows = io_.InputDim(0, 1) * options_.group();
  SHADOW_RETURN_IF_ERROR(io_.ShapeOutput(0, "kv_len", tflite::kInt32, {1}));
  SHADOW_RETURN_IF_ERROR(io_.ShapeOutput(1, "q_i8", tflite::kInt8, {options_.num_kv_heads, rows, options_.head_dim}));
  return io_.ShapeOutput(2, "k_i8", tflite::kInt8, {options_.num_kv_heads, options_.seq_len, options_.head_dim});
}

Status KvAppendOp::FindOutputs(int64_t time, Outputs* outputs) {
  const int64_t d = options_.head_dim;
  SHADOW_RETURN_IF_ERROR(io_.Write(0, "kv_len", 1, &outputs->kv_len));
  SHADOW_RETURN_IF_ERROR(io_.Write(1, "q_i8", options_.num_heads * time * d, &outputs->q_i8));
  return io_.Write(2, "k_i8", int64_t{options_.num_kv_heads} * options_.seq_len * d, &outputs->k_i8);
}

Status KvAppendOp::Eval(Engine* engine) {
  SHADOW_RETURN_IF_ERROR(io_.CheckCounts(7, 3));
  SHADOW_RETURN_IF_ERROR(CheckInputShapes(io_, kInputs, options_));
  OpInputs in;
  SHADOW_RETURN_IF_ERROR(ReadInputs(io_, kInputs, options_, engine->benchmark(), &in));
  Outputs out;
  SHADOW_RETURN_IF_ERROR(FindOutputs(in.time, &out));
  CacheLease cache;
  SHADOW_RETURN_IF_ERROR(engine->Open(in.cache, options_, &cache));
  if (engine->benchmark()) SHADOW_RETURN_IF_ERROR(engine->PrepareBenchmark(options_, in.time, &*cache, &in.chunk));
  return Append(in, out, engine, &*cache);
}

Status KvAppendOp::Append(const OpInputs& in, const Outputs& out, Engine* engine, KvCache* cache) {
  const EstimateInputs estimate{out.q_i8, out.k_i8, options_.seq_len, Scales::kRankInvariant};
  SHADOW_RETURN_IF_ERROR(AppendChunk(options_, in, &estimate, engine, cache));
  *out.kv_len = static_cast<int32_t>(in.chunk.end());
  return Status::Ok();
}

}  // namespace shadow
