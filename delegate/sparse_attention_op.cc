#include "sparse_attention_op.h"

#include <algorithm>

#include "append_rows.h"

namespace shadow {
namespace {

constexpr int kScores = 1;
constexpr InputMap kFusedInputs{0, 1, 2, 3, 4, 5, -1, -1};
constexpr InputMap kSplitInputs{0, -1, -1, 2, 3, 4, 5, 6};

}  // namespace

Status SparseAttentionOp::Create(const OpOptions& options, const NodeIo& io, std::unique_ptr<Op>* op) {
  if (options.form != kFormFused && options.form != (kFormScores | kFormLayerInput)) {
    return Status::Error("flags must be %d (fused) or %d (split), got %d; convert the model again", kFormFused,
                         kFormScores | kFormLayerInput, options.form);
  }
  op->reset(new SparseAttentionOp(options, io));
  return Status::Ok();
}

const InputMap& SparseAttentionOp::inputs() const { return fused() ? kFusedInputs : kSplitInputs; }

Status SparseAttentionOp::CheckShapes() const {
  SHADOW_RETURN_IF_ERROR(io_.CheckCounts(fused() ? 6 : 7, 1));
  SHADOW_RETURN_IF_ERROR(CheckInputShapes(io_, inputs(), options_));
  if (fused()) return Status::Ok();
  const int64_t rows = io_.InputDim(0, 1) * options_.group();
  return io_.CheckInput(kScores, "scores_i8", tflite::kInt8, {options_.num_kv_heads, rows, kAnySize});
}

Status SparseAttentionOp::Prepare() {
  SHADOW_RETURN_IF_ERROR(CheckShapes());
  const int64_t width = int64_t{options_.num_heads} * options_.head_dim;
  return io_.ShapeOutput(0, "o", tflite::kFloat32, {1, io_.InputDim(0, 1), width});
}

Status SparseAttentionOp::Eval(Engine* engine) {
  SHADOW_RETURN_IF_ERROR(CheckShapes());
  OpInputs in;
  SHADOW_RETURN_IF_ERROR(ReadInputs(io_, inputs(), options_, engine->benchmark(), &in));
  CacheLease cache;
  SHADOW_RETURN_IF_ERROR(engine->Open(in.cache, options_, &cache));
  if (engine->benchmark()) SHADOW_RETURN_IF_ERROR(engine->PrepareBenchmark(options_, in.time, &*cache, &in.chunk));
  return fused() ? EvalFused(in, engine, &*cache) : EvalSplit(in, engine, &*cache);
}

Status SparseAttentionOp::EvalFused(const OpInputs& in, Engine* engine, KvCache* cache) {
  // Everything that can be refused is refused before the cache changes.
  SHADOW_RETURN_IF_ERROR(cache->CheckChunk(in.chunk));
  SHADOW_RETURN_IF_ERROR(CheckValues(in, options_, cache->settings().cache_type));
  SHADOW_RETURN_IF_ERROR(AppendRows({in.k, in.v, options_.num_kv_heads, options_.head_dim}, in.chunk, engine->plan(),
                                    engine->kernels(), &engine->pool(), cache));
  SHADOW_RETURN_IF_ERROR(Attend(in, {}, engine, cache));
  cache->Commit(in.chunk);
  return Status::Ok();
}

Status SparseAttentionOp::EvalSplit(const OpInputs& in, Engine* engine, KvCache* cache) {
  const int64_t kv_len = engine->benchmark() ? in.chunk.end() : in.kv_len;
  if (engine->benchmark()) SHADOW_RETURN_IF_ERROR(engine->AppendBenchmarkRows(options_, in.chunk, cache));
  SHADOW_RETURN_IF_ERROR(cache->CheckAppended(in.chunk, kv_len));
  SHADOW_RETURN_IF_ERROR(CheckValues(in, options_, cache->settings().cache_type));
  if (!cache->settings().reads_scores()) return Attend(in, {}, engine, cache);
  const int64_t bucket = io_.InputDim(kScores, 2);
  if (kv_len > bucket) {
    return Status::Error("kv_len %lld does not fit scores_i8 of bucket %lld; use a larger bucket",
                         static_cast<long long>(kv_len), static_cast<long long>(bucket));
  }
  const int8_t* scores = nullptr;
  SHADOW_RETURN_IF_ERROR(io_.Read(kScores, "scores_i8", options_.num_heads * in.time * bucket, &scores));
  return Attend(in, {scores, bucket}, engine, cache);
}

Status SparseAttentionOp::Attend(const OpInputs& in, const GraphScores& scores, Engine* engine, KvCache* cache) {
  const int64_t width = int64_t{options_.num_heads} * options_.head_dim;
  float* out = nullptr;
  SHADOW_RETURN_IF_ERROR(io_.Write(0, "o", in.time * width, &out));
  SHADOW_RETURN_IF_ERROR(AttendChunk(options_, in, {HeadGroup::All(options_), scores}, out, engine, cache));
  std::fill(out + in.chunk.n_valid * width, out + in.time * width, 0.0f);
  return Status::Ok();
}

}  // namespace shadow
