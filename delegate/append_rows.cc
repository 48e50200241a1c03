#include "append_rows.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <vector>

#include "magnitude.h"

namespace shadow {
namespace {

// Below it, waking another thread costs more than it saves.
constexpr int64_t kFloatsWorthSharing = 1 << 18;

// Of magnitudes.
constexpr int32_t kInfinityBits = 0x7F800000;
constexpr int32_t kTooLargeForFp16Bits = 0x477FF000;  // 65520: what rounds to infinity in binary16
constexpr int32_t kTooLargeToSumBits = 0x7B800000;    // 2^120: 64 of them still add up in float32

Status RefuseRow(const RowsToCheck& tensor, const Chunk& chunk, int64_t row, bool is_finite) {
  const auto position = static_cast<long long>(chunk.position + row);
  if (is_finite && tensor.type == CacheType::kFloat32) {
    return Status::Error(
        "%s of layer %d at position %lld holds a value of 2^120 or more, whose sums float32 cannot hold; check the "
        "model's weights and activations",
        tensor.name, chunk.layer, position);
  }
  if (is_finite) {
    return Status::Error(
        "%s of layer %d at position %lld holds a value above 65504, which cache_type f16 cannot store; use "
        "cache_type=f32",
        tensor.name, chunk.layer, position);
  }
  return Status::Error(
      "%s of layer %d at position %lld holds NaN or infinity; check the model's weights and activations", tensor.name,
      chunk.layer, position);
}

// Everything one item of the append needs; an item is a page of one KV head.
struct AppendJob {
  const NewRows& rows;
  const Chunk& chunk;
  const Plan* plan;
  const KernelTable& kernels;
  KvCache& cache;
  CacheType type;
};

int64_t AppendPage(const AppendJob& job, int kv_head, int64_t page_index, Scratch* scratch) {
  const int d = job.rows.head_dim;
  const KvPage& page = job.cache.page(job.chunk.layer, kv_head, page_index);
  const size_t row_bytes = PaddedFloats(d) * ElementBytes(job.type);
  const int64_t begin = std::max(job.chunk.position, page_index * kPageRows);
  const int64_t end = std::min(job.chunk.end(), (page_index + 1) * kPageRows);
  const StoreRowFn store_row = job.kernels.of(job.type).store_row;
  int8_t* key = scratch->key.Reserve(AlignUp(PaddedBytes(d)));
  int64_t saturated = 0;
  for (int64_t position = begin; position < end; ++position) {
    const int row = int(position % kPageRows);
    const size_t source = (size_t(position - job.chunk.position) * job.rows.num_kv_heads + kv_head) * d;
    store_row(job.rows.k + source, d, static_cast<char*>(page.k) + row * row_bytes);
    store_row(job.rows.v + source, d, static_cast<char*>(page.v) + row * row_bytes);
    if (job.plan == nullptr) continue;
    const float inv_scale = 1.0f / job.plan->scale(job.chunk.layer, kv_head);
    saturated += std::max(0, job.kernels.quantize_key(job.rows.k + source, job.plan->centre(job.chunk.layer, kv_head),
                                                      inv_scale, d, key));
    PackKey(key, d, row, page.k_u8);
  }
  if (end == (page_index + 1) * kPageRows) {  // the page is full: its sum, always over all rows in the same order
    std::fill(page.v_sum, page.v_sum + PaddedFloats(d), 0.0f);
    job.kernels.of(job.type).sum_values(page.v, 0, kPageRows, d, page.v_sum);
    if (job.plan != nullptr) job.cache.WritePageKeyBounds(job.chunk.layer, kv_head, page_index);
  }
  return saturated;
}

// A small multiplicative generator: the rows must only be alike on every machine.
class RandomFloats {
 public:
  explicit RandomFloats(uint64_t seed) : state_(seed * 2 + 1) {}
  void Fill(std::vector<float>* values) {
    for (float& value : *values) value = Next();
  }

 private:
  float Next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return float(int32_t(state_ >> 32)) * (1.0f / 1073741824.0f);  // [-2, 2)
  }
  uint64_t state_;
};

}  // namespace

Status CheckFinite(const RowsToCheck& tensor, const Chunk& chunk) {
  const int32_t limit = tensor.type == CacheType::kFloat16 ? kTooLargeForFp16Bits : kTooLargeToSumBits;
  const int64_t width = int64_t{tensor.num_heads} * tensor.head_dim;
  for (int64_t row = 0; row < chunk.n_valid; ++row) {
    const float* values = tensor.rows + row * width;
    if (!AnyMagnitudeFrom(limit, values, width)) continue;
    return RefuseRow(tensor, chunk, row, LargestMagnitudeBits(values, width) < kInfinityBits);
  }
  return Status::Ok();
}

Status AppendRows(const NewRows& rows, const Chunk& chunk, const Plan* plan, const KernelTable& kernels,
                  ThreadPool* pool, KvCache* cache) {
  const auto start = std::chrono::steady_clock::now();
  SHADOW_RETURN_IF_ERROR(cache->CheckChunk(chunk));
  cache->BeginChunk(chunk);
  const AppendJob job{rows, chunk, plan, kernels, *cache, cache->settings().cache_type};
  const int64_t first_page = chunk.position / kPageRows;
  const int64_t pages = (chunk.end() + kPageRows - 1) / kPageRows - first_page;
  std::atomic<int64_t> saturated{0};
  const bool may_share = chunk.n_valid * rows.num_kv_heads * rows.head_dim >= kFloatsWorthSharing;
  const bool done = pool->ParallelFor(rows.num_kv_heads * pages, may_share, [&](int64_t item, Scratch* scratch) {
    saturated += AppendPage(job, int(item / pages), first_page + item % pages, scratch);
  });
  if (!done)
    return Status::Error("out of memory while appending to cache %d; rewind or destroy caches", cache->handle());
  cache->EndChunk(chunk);
  Statistics more;
  more.k_saturated = saturated;
  more.seconds_append = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  cache->AddStatistics(more);
  return Status::Ok();
}

Status AppendRandomRows(const OpOptions& op, int layer, int64_t count, const Plan* plan, const KernelTable& kernels,
                        ThreadPool* pool, KvCache* cache) {
  constexpr int64_t kBlock = 256;
  const size_t width = size_t(op.num_kv_heads) * op.head_dim;
  std::vector<float> k(kBlock * width);
  std::vector<float> v(kBlock * width);
  for (int64_t position = cache->length(layer); position < count; position = cache->length(layer)) {
    RandomFloats random(uint64_t(layer) << 32 | uint64_t(position));
    random.Fill(&k);
    random.Fill(&v);
    const Chunk chunk{layer, position, std::min(kBlock, count - position)};
    cache->AssumeLength(chunk, position);
    SHADOW_RETURN_IF_ERROR(
        AppendRows({k.data(), v.data(), op.num_kv_heads, op.head_dim}, chunk, plan, kernels, pool, cache));
  }
  return Status::Ok();
}

}  // namespace shadow
