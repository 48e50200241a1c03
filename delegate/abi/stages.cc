#include "abi/stages.h"

#include <algorithm>

#include "engine/append_chunk.h"
#include "engine/attend_chunk.h"

namespace shadow {
namespace {

template <typename Struct>
Status CheckStruct(const Struct* given, const char* name) {
  if (given != nullptr && given->struct_size == sizeof(Struct)) return Status::Ok();
  return Status::Error(
      "struct_size of %s must be %zu, got %u; the caller was built for another version of shadow_abi.h", name,
      sizeof(Struct), given == nullptr ? 0 : given->struct_size);
}

Status CheckPointer(const void* pointer, const char* name) {
  return pointer != nullptr ? Status::Ok() : Status::Error("%s must not be null", name);
}

Status ReadChunk(const ShadowChunk* chunk, OpOptions* op, OpInputs* in) {
  SHADOW_RETURN_IF_ERROR(CheckStruct(chunk, "ShadowChunk"));
  SHADOW_RETURN_IF_ERROR(CheckPointer(chunk->options, "options"));
  SHADOW_RETURN_IF_ERROR(CheckPointer(chunk->q, "q"));
  SHADOW_RETURN_IF_ERROR(DecodeOpOptions(chunk->options, kOpOptionsSize, op));
  in->q = chunk->q;
  in->k = chunk->k;
  in->v = chunk->v;
  in->time = chunk->time;
  in->cache = chunk->cache;
  in->chunk = {chunk->layer, chunk->position, chunk->n_valid};
  return CheckRange(*in, *op);
}

Status CheckInputs(const ShadowEstimateInputs* inputs, const OpInputs& in) {
  if (inputs == nullptr) return Status::Ok();
  SHADOW_RETURN_IF_ERROR(CheckStruct(inputs, "ShadowEstimateInputs"));
  SHADOW_RETURN_IF_ERROR(CheckPointer(inputs->q_i8, "q_i8"));
  SHADOW_RETURN_IF_ERROR(CheckPointer(inputs->k_i8, "k_i8"));
  SHADOW_RETURN_IF_ERROR(CheckPointer(inputs->buckets, "buckets"));
  return CheckFitsBucket(in.chunk, inputs->seq_len);
}

Status CheckHeads(const ShadowHeads& heads, const OpOptions& op, const OpInputs& in, const Engine& engine,
                  const KvCache& cache) {
  const bool reads = cache.settings().reads_scores();
  if (!reads && heads.count != op.num_heads) {
    return Status::Error("mode %s attends all %d heads at once, got %d", ModeName(cache.settings().mode), op.num_heads,
                         heads.count);
  }
  if (heads.scores == nullptr || !reads) return Status::Ok();
  SHADOW_RETURN_IF_ERROR(CheckFitsBucket(in.chunk, heads.scores_length));
  const Plan& plan = *engine.plan();  // which such a mode cannot be without
  const int most = plan.q_buckets() * plan.k_buckets();
  if (heads.bucket < 0 || heads.bucket > most) {
    return Status::Error("bucket must be in 0..%d (the plan's grid), got %d", most, heads.bucket);
  }
  return Status::Ok();
}

void ClearPadding(const OpOptions& op, const OpInputs& in, const ShadowHeads& heads) {
  const int64_t width = int64_t{op.num_heads} * op.head_dim;
  for (int64_t t = in.chunk.n_valid; t < in.time; ++t)
    std::fill_n(heads.out + t * width + int64_t{heads.first} * op.head_dim, int64_t{heads.count} * op.head_dim, 0.0f);
}

}  // namespace

Status RunAppend(const ShadowChunk* chunk, ShadowEstimateInputs* inputs, Engine* engine) {
  OpOptions op;
  OpInputs in;
  SHADOW_RETURN_IF_ERROR(ReadChunk(chunk, &op, &in));
  SHADOW_RETURN_IF_ERROR(CheckPointer(in.k, "k"));
  SHADOW_RETURN_IF_ERROR(CheckPointer(in.v, "v"));
  SHADOW_RETURN_IF_ERROR(CheckInputs(inputs, in));
  CacheLease cache;
  SHADOW_RETURN_IF_ERROR(engine->Open(in.cache, op, &cache));
  if (inputs == nullptr) return AppendChunk(op, in, nullptr, engine, &*cache);
  const EstimateInputs out{inputs->q_i8,    inputs->k_i8,     inputs->seq_len, Scales(inputs->scales),
                           inputs->buckets, &inputs->clamped, &inputs->outside};
  return AppendChunk(op, in, &out, engine, &*cache);
}

Status RunAttend(const ShadowChunk* chunk, const ShadowHeads* heads, Engine* engine) {
  OpOptions op;
  OpInputs in;
  SHADOW_RETURN_IF_ERROR(ReadChunk(chunk, &op, &in));
  in.k = in.v = nullptr;  // in the cache
  SHADOW_RETURN_IF_ERROR(CheckStruct(heads, "ShadowHeads"));
  SHADOW_RETURN_IF_ERROR(CheckPointer(heads->out, "out"));
  AttendPart part;
  if (!HeadGroup::Make(op, heads->first, heads->count, &part.heads)) {
    return Status::Error("heads %d .. %d are neither within one of the %d KV heads nor all heads of several",
                         heads->first, heads->first + heads->count - 1, op.num_kv_heads);
  }
  CacheLease cache;
  SHADOW_RETURN_IF_ERROR(engine->Open(in.cache, op, &cache));
  SHADOW_RETURN_IF_ERROR(cache->CheckAppended(in.chunk));
  SHADOW_RETURN_IF_ERROR(CheckHeads(*heads, op, in, *engine, *cache));
  if (cache->settings().reads_scores()) part.scores = {heads->scores, heads->scores_length, heads->bucket};
  part.may_share = heads->may_share != 0;
  SHADOW_RETURN_IF_ERROR(AttendChunk(op, in, part, heads->out, engine, &*cache));
  ClearPadding(op, in, *heads);
  return Status::Ok();
}

}  // namespace shadow
