// The seam between the rules of a cache (kv_cache.h) and the device that stores its rows and attends over them.
#ifndef SHADOWATTN_DELEGATE_CACHE_ATTENTION_BACKEND_H_
#define SHADOWATTN_DELEGATE_CACHE_ATTENTION_BACKEND_H_

#include <cstdint>

#include "base/status.h"
#include "cache/chunk.h"
#include "cache/statistics.h"
#include "config/head_group.h"
#include "config/settings.h"
#include "observe/observer.h"

namespace shadow {

// Whose scales the integers of an estimate graph have. The grid's are one for a head, and its keys are not centred.
enum class Scales : int32_t {
  kRankInvariant = 0,  // queries by their own spread, keys as the cache has them
  kNearest = 1,        // the bucket nearest to the head's measured scales, by squared distance
  kNearestLog = 2,     // by their ratio
  kMiddle = 3,         // the bucket in the middle of the grid, whatever was measured: one static scale
};

// INT8 queries and keys as a static estimate graph takes them (docs/op_spec.md, quantise).
struct EstimateInputs {
  int8_t* q_i8;     // [H][T][d], zero where t is padding
  int8_t* k_i8;     // [N_kv][seq_len][d], zero from the layer's length on
  int64_t seq_len;  // S
  Scales scales;
  int32_t* buckets;  // [H]
  int64_t* clamped;  // of the grid: elements of q and k that had to be clamped
  int64_t* outside;  // of the grid: heads whose measured scales lie outside every bucket
};

// What an estimate graph put out for a head group: [kv_heads][width * T][length]. bucket: of the plan's grid; 0: the
// graph is rank-invariant, and each row's scale follows from its query.
struct GraphScores {
  const int8_t* values = nullptr;  // null: the backend makes its own
  int64_t length = 0;              // S
  int bucket = 0;
};

// Which heads attend, by which scores and thresholds.
struct AttendPart {
  HeadGroup heads;
  GraphScores scores;
  bool may_share = true;                     // false: on the calling thread only
  const float* threshold_factors = nullptr;  // [H] of the layer; null without a plan
};

// The rows of one cache. Calls come from the holder of the cache's lease, but for bytes(); what they are given was
// checked (engine/check_chunk.h). They may throw std::bad_alloc.
class AttentionBackend {
 public:
  virtual ~AttentionBackend() = default;

  // Once, before any rows: the model's shape.
  virtual void Bind(const OpOptions& op) = 0;
  // Other settings from now on; cache_type stays.
  virtual void Configure(const CacheSettings& settings) = 0;
  // Puts the chunk's k and v in place of the layer's rows from its position on, and writes what estimate graphs read;
  // estimate null: none will run.
  virtual void Append(const ChunkInputs& in, const EstimateInputs* estimate, Statistics* statistics) = 0;
  // Writes rows 0 .. n_valid - 1 of the part's heads to out [T][H*d]. The chunk's rows are the layer's last ones.
  virtual void Attend(const ChunkInputs& in, const AttendPart& part, float* out, Observer* observer,
                      Statistics* statistics) = 0;
  // Drops the rows from `length` on in all layers, and gives their memory back.
  virtual void Truncate(int64_t length) = 0;
  // Held now. Any thread may ask.
  virtual int64_t bytes() const = 0;
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_CACHE_ATTENTION_BACKEND_H_
