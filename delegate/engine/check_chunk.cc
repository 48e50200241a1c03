#include "engine/check_chunk.h"

#include "base/magnitude.h"
#include "engine/modes.h"

namespace shadow {
namespace {

// Of magnitudes.
constexpr int32_t kInfinityBits = 0x7F800000;
constexpr int32_t kTooLargeForFp16Bits = 0x477FF000;  // 65520: what rounds to infinity in binary16
constexpr int32_t kTooLargeToSumBits = 0x7B800000;    // 2^120: 64 of them still add up in float32

// rows [n_valid][num_heads * head_dim] of a tensor by its name.
struct RowsToCheck {
  const char* name;
  const float* rows;
  int64_t width;
  CacheType type;
};

Status RefuseRow(const RowsToCheck& tensor, const Chunk& chunk, int64_t row, bool is_finite) {
  const auto position = static_cast<long long>(chunk.position + row);
  if (is_finite && tensor.type == CacheType::kFloat32) {
    return Status::Error(
        "%s of layer %d at position %lld holds a value of 2^120 or more, whose sums float32 cannot hold; check the "
        "model's weights and activations",
        tensor.name, chunk.layer, position);
  }
  if (is_finite) {
    return Status::Error(
        "%s of layer %d at position %lld holds a value above 65504, which cache_type f16 cannot store; use "
        "cache_type=f32",
        tensor.name, chunk.layer, position);
  }
  return Status::Error(
      "%s of layer %d at position %lld holds NaN or infinity; check the model's weights and activations", tensor.name,
      chunk.layer, position);
}

Status CheckFinite(const RowsToCheck& tensor, const Chunk& chunk) {
  const int32_t limit = tensor.type == CacheType::kFloat16 ? kTooLargeForFp16Bits : kTooLargeToSumBits;
  for (int64_t row = 0; row < chunk.n_valid; ++row) {
    const float* values = tensor.rows + row * tensor.width;
    if (!AnyMagnitudeFrom(limit, values, tensor.width)) continue;
    return RefuseRow(tensor, chunk, row, LargestMagnitudeBits(values, tensor.width) < kInfinityBits);
  }
  return Status::Ok();
}

}  // namespace

Status CheckRange(const ChunkInputs& in) {
  if (in.chunk.n_valid < 1 || in.chunk.n_valid > in.time) {
    return Status::Error("n_valid must be in 1..%lld, got %lld; it counts the rows that are not padding",
                         static_cast<long long>(in.time), static_cast<long long>(in.chunk.n_valid));
  }
  if (in.chunk.layer < 0 || in.chunk.layer >= in.op.num_layers) {
    return Status::Error("layer must be in 0..%d, got %d", in.op.num_layers - 1, in.chunk.layer);
  }
  return Status::Ok();
}

Status CheckValues(const ChunkInputs& in, CacheType type) {
  const int64_t q_width = int64_t{in.op.num_heads} * in.op.head_dim;
  const int64_t kv_width = int64_t{in.op.num_kv_heads} * in.op.head_dim;
  SHADOW_RETURN_IF_ERROR(CheckFinite({"q", in.q, q_width, CacheType::kFloat32}, in.chunk));
  SHADOW_RETURN_IF_ERROR(CheckFinite({"k", in.k, kv_width, type}, in.chunk));
  return CheckFinite({"v", in.v, kv_width, type}, in.chunk);
}

Status CheckFitsBucket(const Chunk& chunk, int64_t seq_len) {
  if (seq_len >= chunk.n_valid && chunk.position <= seq_len - chunk.n_valid) return Status::Ok();
  return Status::Error("position %lld + n_valid %lld does not fit bucket %lld; use a larger bucket",
                       static_cast<long long>(chunk.position), static_cast<long long>(chunk.n_valid),
                       static_cast<long long>(seq_len));
}

Status CheckScales(const Plan* plan, Scales scales) {
  if (scales < Scales::kRankInvariant || scales > Scales::kMiddle) {
    return Status::Error("scales must be 0 (rank-invariant), 1, 2 or 3 (of the grid), got %d", int(scales));
  }
  if (plan == nullptr || scales == Scales::kRankInvariant || plan->q_buckets() > 0) return Status::Ok();
  return Status::Error(
      "the plan has no scale grid; convert the model again with --grid_multipliers, or use scales=rank");
}

Status CheckPart(const ChunkInputs& in, const AttendPart& part, const CacheSettings& settings, const Plan* plan) {
  if (!RunningMode(settings).reads_graph_scores) {
    const int heads = part.heads.kv_heads * part.heads.width;
    if (heads == in.op.num_heads) return Status::Ok();
    return Status::Error("mode %s attends all %d heads at once, got %d", settings.mode->name, in.op.num_heads, heads);
  }
  if (part.scores.values == nullptr) return Status::Ok();
  SHADOW_RETURN_IF_ERROR(CheckFitsBucket(in.chunk, part.scores.length));
  const int most = plan->q_buckets() * plan->k_buckets();  // such a mode needs a plan
  if (part.scores.bucket < 0 || part.scores.bucket > most) {
    return Status::Error("bucket must be in 0..%d (the plan's grid), got %d", most, part.scores.bucket);
  }
  return Status::Ok();
}

}  // namespace shadow
