// One chunk of one layer: steps 1 to 5 of docs/op_spec.md (what it computes).
#ifndef SHADOWATTN_DELEGATE_ATTENTION_JOB_H_
#define SHADOWATTN_DELEGATE_ATTENTION_JOB_H_

#include <cstdint>

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
  int64_t time;               // T
  const float* q;             // [T][H][d]
  float* out;                 // [T][H*d]; rows from n_valid on are not touched
  const int8_t* scores_i8;    // [N_kv][G*T][scores_length], or nullptr: estimate here
  int64_t scores_length = 0;  // S
  Observer* observer = nullptr;
};

// Computes all rows 0 .. n_valid - 1 and adds to *statistics.
Status RunAttention(const AttentionJob& job, ThreadPool* pool, Statistics* statistics);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ATTENTION_JOB_H_
