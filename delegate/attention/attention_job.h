// What one chunk of one layer is attended with.
#ifndef SHADOWATTN_DELEGATE_ATTENTION_ATTENTION_JOB_H_
#define SHADOWATTN_DELEGATE_ATTENTION_ATTENTION_JOB_H_

#include <cstdint>

#include "attention/thresholds.h"
#include "cache/kv_cache.h"
#include "config/head_group.h"
#include "config/op_options.h"
#include "config/plan.h"
#include "engine/options.h"
#include "kernels/kernel_table.h"
#include "observe/observer.h"

namespace shadow {

// What an estimate graph put out for a head group: [kv_heads][width * T][length]. bucket: of the plan's grid; 0: the
// graph is rank-invariant, and each row's scale follows from its query.
struct GraphScores {
  const int8_t* values = nullptr;  // null: the op estimates
  int64_t length = 0;              // S
  int bucket = 0;
};

// The chunk's rows are in the cache already.
struct AttentionJob {
  const OpOptions& op;
  const KernelTable& kernels;
  KvCache& cache;
  const Plan* plan;                // null: only mode dense
  const Thresholds* thresholds;    // mode shadow
  const float* threshold_factors;  // [H], mode shadow
  CacheSettings settings;
  Chunk chunk;
  int64_t time;    // T
  const float* q;  // [T][H][d]
  float* out;      // [T][H*d]; rows from n_valid on, and heads that are not meant, are not touched
  HeadGroup heads;
  GraphScores scores;
  Observer* observer = nullptr;
  bool may_share = true;           // false: on the calling thread only
  const float* margins = nullptr;  // [H], of SkipMargins; null: every page is scored
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ATTENTION_ATTENTION_JOB_H_
