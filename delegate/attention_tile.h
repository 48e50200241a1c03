// Steps 1 to 4 of docs/op_spec.md (what it computes) for the query rows of one chunk, tile by tile.
//
// An item of work is (KV head, range of rows). Rows are t-major with all G query heads of the KV head together: row r
// is time r / G, query head kv_head * G + r % G. So a tile's causal lengths lie close together and its keys are read
// once for G heads.
#ifndef SHADOWATTN_DELEGATE_ATTENTION_TILE_H_
#define SHADOWATTN_DELEGATE_ATTENTION_TILE_H_

#include <cstdint>

#include "kernel_table.h"
#include "kv_cache.h"
#include "op_options.h"
#include "options.h"
#include "scratch.h"
#include "status.h"
#include "thread_pool.h"

namespace shadow {

// One chunk of one layer; its rows are in the cache already.
struct AttentionJob {
  const OpOptions& op;
  const KernelTable& kernels;
  const KvCache& cache;
  CacheSettings settings;
  Chunk chunk;
  int64_t time;               // T
  const float* q;             // [T][H][d]
  float* out;                 // [T][H*d]; rows from n_valid on are not touched
  const int8_t* scores_i8;    // [N_kv][G*T][scores_length], or nullptr: estimate here
  int64_t scores_length = 0;  // S
};

// k of a row that sees `causal` positions (step 3).
int64_t KeptPositions(const CacheSettings& settings, int64_t causal);

// The positions a row keeps whatever their score, as two ranges around the scored one: [0, scored_begin) and
// [scored_end, causal). `scored_k` of the scored range are kept.
struct KeptRanges {
  int64_t scored_begin;
  int64_t scored_end;
  int64_t scored_k;
};
KeptRanges SplitKept(const CacheSettings& settings, int64_t causal, int64_t k);

// Computes all rows 0 .. n_valid - 1 and adds to *statistics.
Status RunAttention(const AttentionJob& job, ThreadPool* pool, Statistics* statistics);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ATTENTION_TILE_H_
