#include "attention/make_derived_pages.h"

namespace shadow {

void MakeDerivedPages(const AttentionJob& job) {
  if (job.mode.derive_page == nullptr) return;
  DerivedPages& derived = job.pages.derived();
  const int layer = job.chunk().layer, heads = job.op().num_kv_heads;
  const int64_t full = job.chunk().end() / kPageRows;
  const int64_t present = derived.Grow(job.mode, job.mode.derived_page_bytes(job.op().head_dim), layer, full);
  const int64_t missing = (full - present) * heads;
  if (missing <= 0) return;
  try {
    job.pool.ParallelFor(missing, missing > 1, [&](ThreadPool::Items* items) {
      const ScratchLease scratch(&job.scratch);
      for (int64_t item; items->Take(&item);) {
        const int64_t page = present + item / heads;
        const int kv_head = int(item % heads);
        job.mode.derive_page(job, kv_head, page, derived.page(layer, kv_head, page), scratch.get());
      }
    });
  } catch (...) {
    derived.Truncate(layer, present);  // some were not made
    throw;
  }
}

}  // namespace shadow
