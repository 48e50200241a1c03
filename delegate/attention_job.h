// One chunk of one layer: steps 1 to 5 of docs/op_spec.md (what it computes).
#ifndef SHADOWATTN_DELEGATE_ATTENTION_JOB_H_
#define SHADOWATTN_DELEGATE_ATTENTION_JOB_H_

#include <cstdint>

#include "head_group.h"
#include "kernel_table.h"
#include "kv_cache.h"
#include "observer.h"
#include "op_options.h"
#include "options.h"
#include "plan.h"
#include "status.h"
#include "thread_pool.h"
#include "thresholds.h"

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

// Computes all rows 0 .. n_valid - 1 and adds to *statistics.
Status RunAttention(const AttentionJob& job, ThreadPool* pool, Statistics* statistics);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ATTENTION_JOB_H_
