#include "kv_append_op.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "append_rows.h"

namespace shadow {
namespace {

constexpr InputMap kInputs{0, 1, 2, 3, 4, 5, 6, -1};
// Below this many cached rows, waking another thread costs more than it saves.
constexpr int64_t kRowsWorthSharing = 2048;

// Coarse INT8 queries of one KV head: row g * T + t, zero where t is padding.
void QuantizeQueries(const OpInputs& in, const OpOptions& op, const Plan& plan, int kv_head, int8_t* q_i8) {
  const int64_t d = op.head_dim;
  const float* variance = plan.k_variance(in.chunk.layer, kv_head);
  for (int64_t g = 0; g < op.group(); ++g) {
    const int64_t head = int64_t{kv_head} * op.group() + g;
    for (int64_t t = 0; t < in.time; ++t) {
      int8_t* row = q_i8 + (head * in.time + t) * d;
      const float* q = in.q + (t * op.num_heads + head) * d;
      const bool valid = t < in.chunk.n_valid;
      if (!valid || !QuantizeQueryCoarse(q, variance, plan.estimate_multiplier(), op.head_dim, row))
        std::memset(row, 0, d);
    }
  }
}

// A page's INT8 keys, four channels of a position together and biased by 128, back into rows.
void UnpackKeys(const KvPage& page, int d, int64_t rows, int8_t* k_i8) {
  constexpr uint32_t kBias = 0x80808080;  // flipping the top bit takes 128 off
  for (int channel = 0; channel < d; channel += 4) {
    const uint8_t* source = page.k_u8 + size_t(channel) * kPageRows;
    const size_t bytes = size_t(std::min(4, d - channel));
    for (int64_t row = 0; row < rows; ++row) {
      uint32_t quad;
      std::memcpy(&quad, source + row * 4, sizeof(quad));
      quad ^= kBias;
      std::memcpy(k_i8 + row * d + channel, &quad, bytes);
    }
  }
}

void CopyKeys(const KvCache& cache, const OpOptions& op, int layer, int kv_head, int8_t* k_i8) {
  const int64_t length = cache.length(layer);
  int8_t* head = k_i8 + int64_t{kv_head} * op.seq_len * op.head_dim;
  for (int64_t begin = 0; begin < length; begin += kPageRows) {
    const int64_t rows = std::min<int64_t>(kPageRows, length - begin);
    UnpackKeys(cache.page(layer, kv_head, begin / kPageRows), op.head_dim, rows, head + begin * op.head_dim);
  }
  std::memset(head + length * op.head_dim, 0, (op.seq_len - length) * op.head_dim);
}

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
  SHADOW_RETURN_IF_ERROR(cache->CheckChunk(in.chunk));
  if (in.chunk.end() > options_.seq_len) {
    return Status::Error("kv_len %lld (position %lld + n_valid %lld) does not fit bucket %d; use a larger bucket",
                         static_cast<long long>(in.chunk.end()), static_cast<long long>(in.chunk.position),
                         static_cast<long long>(in.chunk.n_valid), options_.seq_len);
  }
  SHADOW_RETURN_IF_ERROR(CheckValues(in, options_, cache->settings().cache_type));
  SHADOW_RETURN_IF_ERROR(AppendRows({in.k, in.v, options_.num_kv_heads, options_.head_dim}, in.chunk, engine->plan(),
                                    engine->kernels(), &engine->pool(), cache));
  SHADOW_RETURN_IF_ERROR(WriteOutputs(in, out, engine, cache));
  cache->Commit(in.chunk);
  return Status::Ok();
}

Status KvAppendOp::WriteOutputs(const OpInputs& in, const Outputs& out, Engine* engine, KvCache* cache) {
  const auto start = std::chrono::steady_clock::now();
  *out.kv_len = static_cast<int32_t>(in.chunk.end());
  const Plan* plan = engine->plan();
  if (plan == nullptr) {  // mode dense reads neither
    std::memset(out.q_i8, 0, options_.num_heads * in.time * options_.head_dim);
    std::memset(out.k_i8, 0, int64_t{options_.num_kv_heads} * options_.seq_len * options_.head_dim);
    return Status::Ok();
  }
  const bool may_share = in.chunk.end() >= kRowsWorthSharing;
  const bool done = engine->pool().ParallelFor(options_.num_kv_heads, may_share, [&](int64_t head, Scratch*) {
    QuantizeQueries(in, options_, *plan, int(head), out.q_i8);
    CopyKeys(*cache, options_, in.chunk.layer, int(head), out.k_i8);
  });
  if (!done) return Status::Error("out of memory while appending to cache %d", cache->handle());
  Statistics more;
  more.seconds_append = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  cache->AddStatistics(more);
  return Status::Ok();
}

}  // namespace shadow
