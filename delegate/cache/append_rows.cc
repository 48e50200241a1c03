#include "cache/append_rows.h"

#include <algorithm>
#include <atomic>

namespace shadow {
namespace {

// With fewer, waking another thread costs more than it saves.
constexpr int64_t kFloatsWorthSharing = 1 << 18;

// Everything one item of the append needs; an item is a page of one KV head.
struct AppendJob {
  const ChunkInputs& in;
  const Plan* plan;
  const KernelTable& kernels;
  KvPages& pages;
};

int64_t AppendPage(const AppendJob& job, int kv_head, int64_t page_index) {
  const Chunk& chunk = job.in.chunk;
  const int d = job.in.op.head_dim;
  const CacheType type = job.pages.type();
  const KvPage& page = job.pages.page(chunk.layer, kv_head, page_index);
  const size_t row_bytes = PaddedFloats(d) * ElementBytes(type);
  const int64_t begin = std::max(chunk.position, page_index * kPageRows);
  const int64_t end = std::min(chunk.end(), (page_index + 1) * kPageRows);
  const StoreRowFn store_row = job.kernels.of(type).store_row;
  alignas(kAlignment) int8_t key[PaddedBytes(kMaxHeadDim)];
  int64_t saturated = 0;
  for (int64_t position = begin; position < end; ++position) {
    const int row = int(position % kPageRows);
    const size_t source = (size_t(position - chunk.position) * job.in.op.num_kv_heads + kv_head) * d;
    store_row(job.in.k + source, d, static_cast<char*>(page.k) + row * row_bytes);
    store_row(job.in.v + source, d, static_cast<char*>(page.v) + row * row_bytes);
    if (job.plan == nullptr) continue;
    const float inv_scale = 1.0f / job.plan->scale(chunk.layer, kv_head);
    saturated += std::max(
        0, job.kernels.quantize_key(job.in.k + source, job.plan->centre(chunk.layer, kv_head), inv_scale, d, key));
    PackKey(key, d, row, page.k_u8);
  }
  if (end == (page_index + 1) * kPageRows) {  // the page is full: its sum, always over all rows in the same order
    std::fill(page.v_sum, page.v_sum + PaddedFloats(d), 0.0f);
    job.kernels.of(type).sum_values(page.v, 0, kPageRows, d, page.v_sum);
    if (job.plan != nullptr) job.pages.WritePageKeyBounds(chunk.layer, kv_head, page_index);
  }
  return saturated;
}

}  // namespace

int64_t AppendRows(const ChunkInputs& in, const Plan* plan, const KernelTable& kernels, ThreadPool* pool,
                   KvPages* pages) {
  const AppendJob job{in, plan, kernels, *pages};
  const int64_t first = in.chunk.position / kPageRows;
  const int64_t count = (in.chunk.end() + kPageRows - 1) / kPageRows - first;
  const bool may_share = in.chunk.n_valid * in.op.num_kv_heads * in.op.head_dim >= kFloatsWorthSharing;
  std::atomic<int64_t> saturated{0};
  pool->ParallelFor(in.op.num_kv_heads * count, may_share, [&](ThreadPool::Items* items) {
    for (int64_t item; items->Take(&item);) saturated += AppendPage(job, int(item / count), first + item % count);
  });
  return saturated;
}

}  // namespace shadow
