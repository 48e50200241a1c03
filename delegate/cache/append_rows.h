// Writes a chunk's new rows into pages: k and v in the cache's type, and INT8 k where there is a plan.
#ifndef SHADOWATTN_DELEGATE_CACHE_APPEND_ROWS_H_
#define SHADOWATTN_DELEGATE_CACHE_APPEND_ROWS_H_

#include <cstdint>

#include "base/thread_pool.h"
#include "cache/chunk.h"
#include "cache/kv_pages.h"
#include "config/plan.h"
#include "kernels/kernel_table.h"

namespace shadow {

// The pages are prepared for the chunk, whose values are finite. plan: may be null. Returns how many elements of k had
// to be clamped to INT8.
int64_t AppendRows(const ChunkInputs& in, const Plan* plan, const KernelTable& kernels, ThreadPool* pool,
                   KvPages* pages);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_CACHE_APPEND_ROWS_H_
