// Length and commit rules, growth, rewind, the table of handles, and leases.
#include "kv_cache.h"

#include <cstring>

#include "append_rows.h"
#include "cache_table.h"
#include "tests/check.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

constexpr int kLayers = 2;
constexpr int kKvHeads = 2;
constexpr int kDim = 5;
const OpOptions kOp{kFormFused, 0, kLayers, 4, kKvHeads, kDim, 1.0f, 0};

CacheSettings Settings(CacheType type = CacheType::kFloat32, int64_t max_length = 300) {
  CacheSettings settings;
  settings.cache_type = type;
  settings.max_length = max_length;
  return settings;
}

// Row values that say where they belong.
float Value(int layer, int64_t position, int kv_head, int channel, bool is_v) {
  return float(layer * 1000 + position + kv_head * 0.25 + channel * 0.03125 + (is_v ? 0.5 : 0));
}

struct Rows {
  std::vector<float> k;
  std::vector<float> v;
};

Rows MakeRows(const Chunk& chunk) {
  Rows rows;
  for (int64_t t = 0; t < chunk.n_valid; ++t) {
    for (int i = 0; i < kKvHeads * kDim; ++i) {
      rows.k.push_back(Value(chunk.layer, chunk.position + t, i / kDim, i % kDim, false));
      rows.v.push_back(Value(chunk.layer, chunk.position + t, i / kDim, i % kDim, true));
    }
  }
  return rows;
}

Status Append(KvCache* cache, const Chunk& chunk) {
  static const KernelTable kernels(DetectArch());
  static ThreadPool pool(2);
  const Rows rows = MakeRows(chunk);
  SHADOW_RETURN_IF_ERROR(
      AppendRows({rows.k.data(), rows.v.data(), kKvHeads, kDim}, chunk, nullptr, kernels, &pool, cache));
  cache->Commit(chunk);
  return Status::Ok();
}

Status AppendAllLayers(KvCache* cache, int64_t position, int64_t n_valid) {
  for (int layer = 0; layer < kLayers; ++layer) SHADOW_RETURN_IF_ERROR(Append(cache, {layer, position, n_valid}));
  return Status::Ok();
}

void CheckContents(const KvCache& cache, int64_t length) {
  for (int layer = 0; layer < kLayers; ++layer) {
    CHECK(cache.length(layer) == length);
    for (int64_t position = 0; position < length; ++position) {
      for (int i = 0; i < kKvHeads * kDim; ++i) {
        const KvPage& page = cache.page(layer, i / kDim, position / kPageRows);
        const size_t at = size_t(position % kPageRows) * PaddedFloats(kDim) + i % kDim;
        CHECK(static_cast<const float*>(page.k)[at] == Value(layer, position, i / kDim, i % kDim, false));
        CHECK(static_cast<const float*>(page.v)[at] == Value(layer, position, i / kDim, i % kDim, true));
      }
    }
  }
}

void TestChunkingAndRewind() {
  KvCache cache(7, Settings());
  CHECK_OK(cache.Bind(kOp, false));
  for (int64_t size : {1, 62, 1, 1, 64, 65}) CHECK_OK(AppendAllLayers(&cache, cache.committed(), size));
  CHECK(cache.committed() == 194);
  CheckContents(cache, 194);
  CHECK_OK(AppendAllLayers(&cache, 100, 3));  // a smaller position rewinds
  CheckContents(cache, 103);
  CHECK_OK(AppendAllLayers(&cache, 0, 1));  // 0 restarts
  CheckContents(cache, 1);
}

// The sums of full pages, in order of the rows, whatever the chunks were and whatever was there before.
void TestPageSums() {
  for (int64_t size : {1, 7, 63, 64, 65, 130}) {
    KvCache cache(7, Settings());
    CHECK_OK(cache.Bind(kOp, false));
    CHECK_OK(AppendAllLayers(&cache, 0, 130));
    cache.page(0, 0, 0).v_sum[0] = -1;  // what a reopened page held must not matter
    for (int64_t position = 20; position < 130; position += size) {
      CHECK_OK(AppendAllLayers(&cache, position, std::min(size, 130 - position)));
    }
    for (int layer = 0; layer < kLayers; ++layer) {
      for (int64_t i = 0; i < 2 * kKvHeads * kDim; ++i) {
        const int64_t page = i / (kKvHeads * kDim), head = i / kDim % kKvHeads, channel = i % kDim;
        float sum = 0;
        for (int64_t row = 0; row < 64; ++row) sum += Value(layer, page * 64 + row, int(head), int(channel), true);
        CHECK(cache.page(layer, int(head), page).v_sum[channel] == sum);
      }
    }
  }
}

void TestFactors() {
  KvCache cache(7, Settings());
  CHECK(cache.threshold_factors().empty());
  cache.SetThresholdFactors({1, 2});
  CHECK(cache.threshold_factors() == (std::vector<float>{1, 2}));
}

void TestFailedChunkRollsBack() {
  KvCache cache(7, Settings());
  CHECK_OK(cache.Bind(kOp, false));
  CHECK_OK(AppendAllLayers(&cache, 0, 70));
  CHECK_OK(Append(&cache, {0, 70, 5}));  // layer 1 never comes
  CHECK(cache.committed() == 70);
  CHECK_OK(AppendAllLayers(&cache, 70, 2));
  CheckContents(cache, 72);
  CHECK_OK(Append(&cache, {0, 30, 5}));  // an abandoned rewind has rewound
  CHECK(cache.committed() == 30);
  CHECK_REFUSED(Append(&cache, {0, 31, 1}), "gap");
}

void TestRefusedChunks() {
  KvCache cache(7, Settings());
  CHECK_OK(cache.Bind(kOp, false));
  CHECK_REFUSED(Append(&cache, {0, 1, 1}), "leaves a gap: cache 7 holds 0 positions");
  CHECK_REFUSED(Append(&cache, {0, -1, 1}), "negative");
  CHECK_REFUSED(Append(&cache, {1, 0, 1}), "expects layer 0 next, got layer 1");
  CHECK_OK(AppendAllLayers(&cache, 0, 299));
  CHECK_REFUSED(Append(&cache, {0, 299, 2}), "cache 7 is full");
  CHECK_REFUSED(cache.CheckChunk({0, 2147483647, 2147483647}), "full");
  CHECK_OK(AppendAllLayers(&cache, 299, 1));
  CHECK(cache.committed() == 300);
  CHECK_OK(Append(&cache, {0, 10, 4}));
  CHECK_REFUSED(Append(&cache, {1, 10, 3}), "differ from the 10 and 4 of layer 0");
  CHECK_REFUSED(Append(&cache, {1, 9, 4}), "differ");
  CHECK_OK(Append(&cache, {1, 10, 4}));
  CHECK_REFUSED(Append(&cache, {1, 10, 4}), "expects layer 0 next");
  CheckContents(cache, 14);
}

void TestGrowthFollowsRows() {
  CacheSettings settings = Settings(CacheType::kFloat16, 1 << 24);
  settings.max_skipped_mass = 0;
  KvCache cache(7, settings);
  CHECK_OK(cache.Bind(kOp, true));
  CHECK(cache.bytes() == 0);
  CHECK_OK(AppendAllLayers(&cache, 0, 1));
  const int64_t page = 2 * 64 * PaddedFloats(kDim) * 2 + 64 * PaddedBytes(kDim) + PaddedFloats(kDim) * 4;
  const int64_t bounds = 2 * 64 * PaddedBytes(kDim);  // of 64 pages
  CHECK(cache.bytes() == kLayers * kKvHeads * (page + bounds));
  CHECK_OK(AppendAllLayers(&cache, 1, 64));
  CHECK(cache.bytes() == kLayers * kKvHeads * (2 * page + bounds));
  const KvPage first = cache.page(0, 0, 0);
  for (int i = 0; i < 20; ++i) CHECK_OK(AppendAllLayers(&cache, cache.committed(), 64));
  CHECK(cache.page(0, 0, 0).k == first.k);  // pages never move
  CHECK_OK(cache.Rewind(64));
  CHECK(cache.bytes() == kLayers * kKvHeads * (page + bounds) && cache.committed() == 64 && cache.length(1) == 64);
  CHECK_REFUSED(cache.Rewind(65), "holds 64");
  CHECK_REFUSED(cache.Rewind(-1), "cannot rewind");
  CHECK_OK(cache.Rewind(0));
  CHECK(cache.bytes() == 0);
}

void TestBind() {
  KvCache cache(7, Settings());
  CHECK_OK(cache.Bind(kOp, false));
  CHECK_OK(cache.Bind(kOp, false));
  OpOptions other = kOp;
  other.num_layers = 3;
  CHECK_REFUSED(cache.Bind(other, false), "create another cache");
}

// So many floats that the append is shared between threads.
void TestAppendOnThreads() {
  const OpOptions op{kFormFused, 0, 1, 2, 2, 512, 1.0f, 0};
  const Chunk chunk{0, 0, 300};
  std::mt19937 generator(Seed());
  const std::vector<float> k = RandomFloats(300 * 2 * 512, &generator);
  const std::vector<float> v = RandomFloats(300 * 2 * 512, &generator);
  const KernelTable kernels(DetectArch());
  KvCache caches[] = {{0, Settings()}, {1, Settings()}};
  for (int i : {0, 1}) {
    ThreadPool pool(i == 0 ? 1 : 3);
    CHECK_OK(caches[i].Bind(op, false));
    CHECK_OK(AppendRows({k.data(), v.data(), 2, 512}, chunk, nullptr, kernels, &pool, &caches[i]));
  }
  for (int kv_head : {0, 1}) {
    for (int page = 0; page < 5; ++page) {
      const KvPage& one = caches[0].page(0, kv_head, page);
      const KvPage& other = caches[1].page(0, kv_head, page);
      CHECK(std::memcmp(one.k, other.k, 64 * 512 * 4) == 0 && std::memcmp(one.v, other.v, 64 * 512 * 4) == 0);
    }
  }
  CHECK(static_cast<const float*>(caches[1].page(0, 1, 4).v)[43 * 512 + 511] == v.back());
}

void TestCheckAppended() {
  KvCache cache(7, Settings());
  CHECK_REFUSED(cache.CheckAppended({0, 0, 1}, 1), "kv_len 1");  // not bound yet
  CHECK_OK(cache.Bind(kOp, false));
  CHECK_OK(Append(&cache, {0, 0, 4}));
  CHECK_OK(cache.CheckAppended({0, 0, 4}, 4));
  CHECK_REFUSED(cache.CheckAppended({0, 0, 4}, 5), "kv_len 5");
  CHECK_REFUSED(cache.CheckAppended({0, 0, 3}, 4), "kv_len 4");
  CHECK_REFUSED(cache.CheckAppended({0, -1, 5}, 4), "kv_len 4");
  CHECK_REFUSED(cache.CheckAppended({1, 0, 4}, 4), "0 rows");
}

void TestTable() {
  CacheTable table(Settings());
  CHECK(table.size() == 0);
  int32_t a = 0;
  int32_t b = 0;
  CHECK_OK(table.Create("keep_ratio=0.5", &a));
  CHECK_OK(table.Create("", &b));
  CHECK(a == 1 && b == 2 && table.size() == 2);
  CHECK_REFUSED(table.Create("keep_ratio=2", &b), "keep_ratio");
  CacheLease lease;
  CHECK_OK(table.Lease(a, &lease));
  CHECK(lease->settings().keep_ratio == 0.5 && lease->settings().max_length == 300);
  {
    CacheLease second;
    CHECK_REFUSED(table.Lease(a, &second), "in use by another thread");
  }
  CHECK_OK(table.Destroy(a));  // the lease keeps it alive
  CHECK(lease->handle() == a);
  CHECK_REFUSED(table.Destroy(a), "does not exist");
  CHECK_REFUSED(table.Destroy(0), "belongs to the delegate");
  CacheLease again;
  CHECK_OK(table.Lease(b, &again));
  CHECK_REFUSED(table.Lease(a, &lease), "cache 1 does not exist");
  for (int32_t handle : {-1, 99, INT32_MIN, INT32_MAX}) CHECK_REFUSED(table.Lease(handle, &lease), "does not exist");
}

}  // namespace

int main() {
  TestChunkingAndRewind();
  TestPageSums();
  TestFactors();
  TestFailedChunkRollsBack();
  TestRefusedChunks();
  TestGrowthFollowsRows();
  TestBind();
  TestAppendOnThreads();
  TestCheckAppended();
  TestTable();
  return Finish();
}
