// Writes a chunk's new rows into a cache: k and v in the cache's type, and INT8 k when there is a plan.
#ifndef SHADOWATTN_DELEGATE_CACHE_APPEND_ROWS_H_
#define SHADOWATTN_DELEGATE_CACHE_APPEND_ROWS_H_

#include "base/status.h"
#include "base/thread_pool.h"
#include "cache/kv_cache.h"
#include "config/plan.h"
#include "kernels/kernel_table.h"

namespace shadow {

// rows [n_valid][num_heads][head_dim]. Refuses NaN and infinity; for k and v in float16 also what float16 cannot hold.
// `name` is the tensor's.
struct RowsToCheck {
  const char* name;
  const float* rows;
  int num_heads;
  int head_dim;
  CacheType type;
};
Status CheckFinite(const RowsToCheck& tensor, const Chunk& chunk);

struct NewRows {
  const float* k;  // [T][N_kv][d], rows 0 .. n_valid - 1 are read
  const float* v;
  int num_kv_heads;
  int head_dim;
};

// Checks the chunk, makes room and writes all rows. Commits nothing. Values must be finite.
Status AppendRows(const NewRows& rows, const Chunk& chunk, const Plan* plan, const KernelTable& kernels,
                  ThreadPool* pool, KvCache* cache);

// Fills a layer with random rows up to `count` (benchmark_rows).
Status AppendRandomRows(const OpOptions& op, int layer, int64_t count, const Plan* plan, const KernelTable& kernels,
                        ThreadPool* pool, KvCache* cache);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_CACHE_APPEND_ROWS_H_
