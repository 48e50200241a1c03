// INT8 queries and keys as a static estimate graph takes them (docs/op_spec.md, quantise).
#ifndef SHADOWATTN_DELEGATE_ESTIMATE_ESTIMATE_INPUTS_H_
#define SHADOWATTN_DELEGATE_ESTIMATE_ESTIMATE_INPUTS_H_

#include <cstdint>

#include "engine/engine.h"
#include "engine/op_inputs.h"

namespace shadow {

// Whose scales the integers have. The grid's are one for a head, and its keys are not centred.
enum class Scales : int32_t {
  kRankInvariant = 0,  // queries by their own spread, keys as the cache has them
  kNearest = 1,        // the bucket nearest to the head's measured scales, by squared distance
  kNearestLog = 2,     // by their ratio
  kMiddle = 3,         // the bucket in the middle of the grid, whatever was measured: one static scale
};

struct EstimateInputs {
  int8_t* q_i8;     // [H][T][d], zero where t is padding
  int8_t* k_i8;     // [N_kv][seq_len][d], zero from the cache's length on
  int64_t seq_len;  // S
  Scales scales;
  int32_t* buckets;  // [H]
  int64_t* clamped;  // of the grid: elements of q and k that had to be clamped
  int64_t* outside;  // of the grid: heads whose measured scales lie outside every bucket
};

// Refuses scales of a grid that the plan does not have.
Status CheckScales(const Plan& plan, Scales scales);
// Whether the cache's rows, once the chunk is appended, fit graphs of S = seq_len.
Status CheckFitsBucket(const Chunk& chunk, int64_t seq_len);

// The chunk's rows are in the cache; scales and seq_len were checked.
Status WriteEstimateInputs(const OpOptions& op, const OpInputs& in, const EstimateInputs& out, Engine* engine,
                           KvCache* cache);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ESTIMATE_ESTIMATE_INPUTS_H_
