// Length and commit rules, growth, rewind, the table of handles, and leases.
#include "cache/kv_cache.h"

#include <cstring>
#include <limits>

#include "cache/cache_table.h"
#include "engine/cpu_backend.h"
#include "engine/modes.h"
#include "tests/check.h"
#include "tests/format_bytes.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

constexpr int kLayers = 2;
constexpr int kKvHeads = 2;
constexpr int kDim = 5;
const OpOptions kOp{0, kLayers, 4, kKvHeads, kDim, 1.0f};

CacheSettings Settings(CacheType type = CacheType::kFloat32, int64_t max_length = 300) {
  CacheSettings settings{DefaultMode()};
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

// A cache whose backend a test can look into.
struct TestCache {
  explicit TestCache(const CacheSettings& settings = Settings(), int num_threads = 2, const Plan* plan = nullptr)
      : resources(DetectArch(), num_threads), cache(7, settings, [this](const CacheSettings& s) {
          auto made = std::make_unique<CpuBackend>(s, &resources);
          backend = made.get();
          return made;
        }) {
    resources.plan = plan;
  }
  KvCache* operator->() { return &cache; }
  const KvPage& page(int layer, int kv_head, int64_t index) const {
    return backend->pages().page(layer, kv_head, index);
  }

  CpuResources resources;
  CpuBackend* backend = nullptr;
  KvCache cache;
};

Status Append(TestCache* cache, const Chunk& chunk) {
  SHADOW_RETURN_IF_ERROR((*cache)->CheckChunk(chunk));
  const Rows rows = MakeRows(chunk);
  ChunkInputs in;
  in.op = kOp;
  in.chunk = chunk;
  in.time = chunk.n_valid;
  in.k = rows.k.data();
  in.v = rows.v.data();
  (*cache)->Append(in, nullptr);
  (*cache)->Commit(chunk);
  return Status::Ok();
}

Status AppendAllLayers(TestCache* cache, int64_t position, int64_t n_valid) {
  for (int layer = 0; layer < kLayers; ++layer) SHADOW_RETURN_IF_ERROR(Append(cache, {layer, position, n_valid}));
  return Status::Ok();
}

void CheckContents(const TestCache& cache, int64_t length) {
  for (int layer = 0; layer < kLayers; ++layer) {
    CHECK(cache.cache.length(layer) == length);
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
  TestCache cache;
  CHECK_OK(cache->Bind(kOp));
  for (int64_t size : {1, 62, 1, 1, 64, 65}) CHECK_OK(AppendAllLayers(&cache, cache->committed(), size));
  CHECK(cache->committed() == 194);
  CheckContents(cache, 194);
  CHECK_OK(AppendAllLayers(&cache, 100, 3));  // a smaller position rewinds
  CheckContents(cache, 103);
  CHECK_OK(AppendAllLayers(&cache, 0, 1));  // 0 restarts
  CheckContents(cache, 1);
}

// The sums of full pages, in order of the rows, whatever the chunks were and whatever was there before.
void TestPageSums() {
  for (int64_t size : {1, 7, 63, 64, 65, 130}) {
    TestCache cache;
    CHECK_OK(cache->Bind(kOp));
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
  TestCache cache;
  CHECK(cache->threshold_factors().empty());
  cache->SetThresholdFactors({1, 2});
  CHECK(cache->threshold_factors() == (std::vector<float>{1, 2}));
}

void TestFailedChunkRollsBack() {
  TestCache cache;
  CHECK_OK(cache->Bind(kOp));
  CHECK_OK(AppendAllLayers(&cache, 0, 70));
  CHECK_OK(Append(&cache, {0, 70, 5}));  // layer 1 never comes
  CHECK(cache->committed() == 70);
  CHECK_OK(AppendAllLayers(&cache, 70, 2));
  CheckContents(cache, 72);
  CHECK_OK(Append(&cache, {0, 30, 5}));  // an abandoned rewind has rewound
  CHECK(cache->committed() == 30);
  CHECK_REFUSED(Append(&cache, {0, 31, 1}), "gap");
}

void TestRefusedChunks() {
  TestCache cache;
  CHECK_OK(cache->Bind(kOp));
  CHECK_REFUSED(Append(&cache, {0, 1, 1}), "leaves a gap: cache 7 holds 0 positions");
  CHECK_REFUSED(Append(&cache, {0, -1, 1}), "negative");
  CHECK_REFUSED(Append(&cache, {1, 0, 1}), "expects layer 0 next, got layer 1");
  CHECK_OK(AppendAllLayers(&cache, 0, 299));
  CHECK_REFUSED(Append(&cache, {0, 299, 2}), "cache 7 is full");
  constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();
  for (int64_t position : {int64_t{2147483647}, kLargest - 1, kLargest}) {
    CHECK_REFUSED(cache->CheckChunk({0, position, 2}), "full");
    CHECK_REFUSED(cache->CheckAppended({0, position, 2}), "must be the 299 rows");
    CHECK_REFUSED(cache->Rewind(position), "cannot rewind");
  }
  CHECK_OK(AppendAllLayers(&cache, 299, 1));
  CHECK(cache->committed() == 300);
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
  const Bytes bytes = PackPlan({kLayers, 4, kKvHeads, kDim}, 0.0f, 10.0f);
  Plan plan;
  CHECK_OK(Plan::Parse(bytes.data(), bytes.size(), "plan", &plan));
  TestCache cache(settings, 2, &plan);
  CHECK_OK(cache->Bind(kOp));
  CHECK(cache->bytes() == 0);
  CHECK_OK(AppendAllLayers(&cache, 0, 1));
  const int64_t page = 2 * 64 * PaddedFloats(kDim) * 2 + 64 * PaddedBytes(kDim) + PaddedFloats(kDim) * 4;
  const int64_t bounds = 2 * 64 * PaddedBytes(kDim);  // of 64 pages
  CHECK(cache->bytes() == kLayers * kKvHeads * (page + bounds));
  CHECK_OK(AppendAllLayers(&cache, 1, 64));
  CHECK(cache->bytes() == kLayers * kKvHeads * (2 * page + bounds));
  const KvPage first = cache.page(0, 0, 0);
  for (int i = 0; i < 20; ++i) CHECK_OK(AppendAllLayers(&cache, cache->committed(), 64));
  CHECK(cache.page(0, 0, 0).k == first.k);  // pages never move
  CHECK_OK(cache->Rewind(64));
  CHECK(cache->bytes() == kLayers * kKvHeads * (page + bounds) && cache->committed() == 64 && cache->length(1) == 64);
  CHECK_REFUSED(cache->Rewind(65), "holds 64");
  CHECK_REFUSED(cache->Rewind(-1), "cannot rewind");
  CHECK_OK(cache->Rewind(0));
  CHECK(cache->bytes() == 0);
}

void TestBind() {
  TestCache cache;
  CHECK_OK(cache->Bind(kOp));
  CHECK_OK(cache->Bind(kOp));
  OpOptions other = kOp;
  other.num_layers = 3;
  CHECK_REFUSED(cache->Bind(other), "create another cache");
}

// So many floats that the append is shared between threads.
void TestAppendOnThreads() {
  ChunkInputs in;
  in.op = {0, 1, 2, 2, 512, 1.0f};
  in.chunk = {0, 0, 300};
  in.time = 300;
  std::mt19937 generator(Seed());
  const std::vector<float> k = RandomFloats(300 * 2 * 512, &generator);
  const std::vector<float> v = RandomFloats(300 * 2 * 512, &generator);
  in.k = k.data();
  in.v = v.data();
  TestCache one(Settings(), 1), three(Settings(), 3);
  for (TestCache* cache : {&one, &three}) {
    CHECK_OK((*cache)->Bind(in.op));
    (*cache)->Append(in, nullptr);
  }
  for (int kv_head : {0, 1}) {
    for (int page = 0; page < 5; ++page) {
      const KvPage &a = one.page(0, kv_head, page), &b = three.page(0, kv_head, page);
      CHECK(std::memcmp(a.k, b.k, 64 * 512 * 4) == 0 && std::memcmp(a.v, b.v, 64 * 512 * 4) == 0);
    }
  }
  CHECK(static_cast<const float*>(three.page(0, 1, 4).v)[43 * 512 + 511] == v.back());
}

void TestCheckAppended() {
  TestCache cache;
  CHECK_OK(cache->Bind(kOp));
  CHECK_OK(Append(&cache, {0, 0, 4}));
  CHECK_OK(cache->CheckAppended({0, 0, 4}));
  CHECK_OK(cache->CheckAppended({0, 3, 1}));  // its last row alone
  CHECK_REFUSED(cache->CheckAppended({0, 0, 5}), "position 0 + n_valid 5 must be the 4 rows");
  CHECK_REFUSED(cache->CheckAppended({0, 0, 3}), "must be the 4 rows");
  CHECK_REFUSED(cache->CheckAppended({0, -1, 5}), "position -1");
  CHECK_REFUSED(cache->CheckAppended({1, 0, 4}), "the 0 rows of layer 1");
}

void TestTable() {
  CpuResources resources(DetectArch(), 1);
  CacheTable table(Settings(), [&](const CacheSettings& s) { return std::make_unique<CpuBackend>(s, &resources); });
  CHECK(table.size() == 0);
  int32_t a = 0;
  int32_t b = 0;
  CacheSettings half = Settings();
  half.keep_ratio = 0.5;
  CHECK_OK(table.Create(half, &a));
  CHECK_OK(table.Create(Settings(), &b));
  CHECK(a == 1 && b == 2 && table.size() == 2);
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
