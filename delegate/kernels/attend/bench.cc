// ns of the attend kernels: sparse per selected key and per (query, key) pair, dense per visible pair. Caches as in a
// run: one KV head, kv_len rows; d 64 with 4,096 rows in 16 bits are 1 MiB.
#include "kernels/attend/kernels.h"
#include "kernels/attend/test_cache.h"
#include "kernels/benching.h"

namespace shadow {
namespace {

using testing::AlignedVector;
using testing::RandomNormal;
using testing::TestCache;

AlignedVector<float> RandomQueries(int rows, int d) {
  AlignedVector<float> q(static_cast<size_t>(rows * PaddedFloats(d)));
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < d; ++c) q[static_cast<size_t>(r * PaddedFloats(d) + c)] = RandomNormal();
  }
  return q;
}

void CheckClose(const float* a, const float* b, int d, const char* name) {
  for (int c = 0; c < d; ++c) SHADOW_CHECK(std::fabs(a[c] - b[c]) < 1e-4f, "%s", name);
}

// Successive queries select different positions.
void BenchSparse(const char* name, AttendSparseFn kernel, AttendSparseFn scalar, const TestCache& cache, float keep) {
  constexpr size_t kQueries = 32;
  const int k = static_cast<int>(keep * static_cast<float>(cache.n)), d = cache.head_dim;
  const AlignedVector<float> q = RandomQueries(1, d);
  std::vector<std::vector<int32_t>> selected(kQueries);
  for (auto& positions : selected) {
    for (int p = 0; p < cache.n && static_cast<int>(positions.size()) < k; ++p) {
      const int left = cache.n - p, wanted = k - static_cast<int>(positions.size());
      if (testing::RandomInt(1, left) <= wanted) positions.push_back(p);
    }
  }
  AlignedVector<float> scratch(static_cast<size_t>(k) + 64);
  std::vector<float> out(static_cast<size_t>(d)), expected(out.size());
  kernel(q.data(), 0.125f, cache.view(), selected[0].data(), k, scratch.data(), out.data());
  scalar(q.data(), 0.125f, cache.view(), selected[0].data(), k, scratch.data(), expected.data());
  CheckClose(out.data(), expected.data(), d, name);
  size_t row = 0;
  const double ns = testing::Nanoseconds([&] {
    row = (row + 1) % kQueries;
    kernel(q.data(), 0.125f, cache.view(), selected[row].data(), k, scratch.data(), out.data());
  });
  std::printf("attend %-16s d %3d kv_len %5d keep %.2f: %6.2f ns/selected key, %.3f ns/pair\n", name, d, cache.n,
              static_cast<double>(keep), ns / k, ns / cache.n);
}

void BenchDense(const char* name, AttendDenseFn kernel, AttendDenseFn scalar, const TestCache& cache, int rows) {
  const int d = cache.head_dim;
  const AlignedVector<float> q = RandomQueries(rows, d);
  const std::vector<int32_t> causal(static_cast<size_t>(rows), cache.n);
  std::vector<float> out(static_cast<size_t>(rows * d)), expected(out.size());
  std::vector<float*> out_rows, expected_rows;
  for (int r = 0; r < rows; ++r) {
    out_rows.push_back(out.data() + r * d);
    expected_rows.push_back(expected.data() + r * d);
  }
  AlignedVector<float> scratch(static_cast<size_t>(AttendDenseScratchFloats(rows, d)));
  kernel({q.data(), causal.data(), out_rows.data(), rows, 0.125f}, cache.view(), scratch.data());
  scalar({q.data(), causal.data(), expected_rows.data(), rows, 0.125f}, cache.view(), scratch.data());
  CheckClose(out.data(), expected.data(), rows * d, name);
  const double ns = testing::Nanoseconds(
      [&] { kernel({q.data(), causal.data(), out_rows.data(), rows, 0.125f}, cache.view(), scratch.data()); });
  const double pair = ns / rows / cache.n;
  std::printf("attend %-16s d %3d kv_len %5d rows %2d: %.3f ns/pair, %.0f GFLOP/s\n", name, d, cache.n, rows, pair,
              4 * d / pair);
}

void BenchType(const char* name, AttendSparseFn sparse, AttendDenseFn dense, CacheType type) {
  const bool f32 = type == CacheType::kFloat32;
  for (int d : {64, 128}) {
    for (int kv_len : {2048, 8192}) {
      const TestCache cache(kv_len, d, type, 1.0f);
      for (float keep : {0.05f, 0.2f}) {
        BenchSparse(name, sparse, f32 ? AttendSparseF32Scalar : AttendSparseF16Scalar, cache, keep);
      }
      for (int rows : {1, 3, 48, 96}) {
        BenchDense(name, dense, f32 ? AttendDenseF32Scalar : AttendDenseF16Scalar, cache, rows);
      }
    }
  }
}

void BenchAll() {
#define SHADOW_KERNEL(needed, name)                                                           \
  if (testing::HasArch(#name, needed)) {                                                      \
    BenchType("F16" #name, AttendSparseF16##name, AttendDenseF16##name, CacheType::kFloat16); \
    BenchType("F32" #name, AttendSparseF32##name, AttendDenseF32##name, CacheType::kFloat32); \
  }
#include "kernels/attend/kernels.inc"
#undef SHADOW_KERNEL
}

}  // namespace
}  // namespace shadow

int main() {
  shadow::testing::Start("attend bench");
  shadow::BenchAll();
  return shadow::testing::Finish();
}
