#include "abi/stages.h"

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

// k and v are left null: only an append brings them.
Status ReadChunk(const ShadowChunk* chunk, ChunkInputs* in) {
  SHADOW_RETURN_IF_ERROR(CheckStruct(chunk, "ShadowChunk"));
  SHADOW_RETURN_IF_ERROR(CheckPointer(chunk->options, "options"));
  SHADOW_RETURN_IF_ERROR(CheckPointer(chunk->q, "q"));
  SHADOW_RETURN_IF_ERROR(DecodeOpOptions(chunk->options, kOpOptionsSize, &in->op));
  in->q = chunk->q;
  in->time = chunk->time;
  in->cache = chunk->cache;
  in->chunk = {chunk->layer, chunk->position, chunk->n_valid};
  return Status::Ok();
}

}  // namespace

Status RunAppend(const ShadowChunk* chunk, ShadowEstimateInputs* inputs, Engine* engine) {
  ChunkInputs in;
  SHADOW_RETURN_IF_ERROR(ReadChunk(chunk, &in));
  SHADOW_RETURN_IF_ERROR(CheckPointer(chunk->k, "k"));
  SHADOW_RETURN_IF_ERROR(CheckPointer(chunk->v, "v"));
  in.k = chunk->k;
  in.v = chunk->v;
  if (inputs == nullptr) return engine->Append(in, nullptr);
  SHADOW_RETURN_IF_ERROR(CheckStruct(inputs, "ShadowEstimateInputs"));
  SHADOW_RETURN_IF_ERROR(CheckPointer(inputs->q_i8, "q_i8"));
  SHADOW_RETURN_IF_ERROR(CheckPointer(inputs->k_i8, "k_i8"));
  SHADOW_RETURN_IF_ERROR(CheckPointer(inputs->buckets, "buckets"));
  const EstimateInputs out{inputs->q_i8,    inputs->k_i8,     inputs->seq_len, Scales(inputs->scales),
                           inputs->buckets, &inputs->clamped, &inputs->outside};
  return engine->Append(in, &out);
}

Status RunAttend(const ShadowChunk* chunk, const ShadowHeads* heads, Engine* engine) {
  ChunkInputs in;
  SHADOW_RETURN_IF_ERROR(ReadChunk(chunk, &in));
  SHADOW_RETURN_IF_ERROR(CheckStruct(heads, "ShadowHeads"));
  SHADOW_RETURN_IF_ERROR(CheckPointer(heads->out, "out"));
  AttendPart part;
  if (!HeadGroup::Make(in.op, heads->first, heads->count, &part.heads)) {
    return Status::Error(
        "heads from %d on, %d of them, are neither within one of the %d KV heads nor all heads of several",
        heads->first, heads->count, in.op.num_kv_heads);
  }
  part.scores = {heads->scores, heads->scores_length, heads->bucket};
  part.may_share = heads->may_share != 0;
  return engine->Attend(in, part, heads->out);
}

}  // namespace shadow
