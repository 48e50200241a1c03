// ns of the attend kernels: of sparse attention per selected key, weights and values apart, of dense attention per
// visible pair. The cache is that of one KV head with kv_len rows; at d 64, 4,096 rows in FP16 are 1 MiB.
#include <algorithm>

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

void CheckClose(const float* a, const float* b, int d, const char* name, float tolerance = 1e-4f) {
  for (int c = 0; c < d; ++c) SHADOW_CHECK(std::fabs(a[c] - b[c]) < tolerance, "%s", name);
}

// The two kernels of sparse attention, one after the other.
struct Sparse {
  SoftmaxSelectedFn softmax;
  AddValuesFn add;
};

// Every row selects other positions.
void BenchSparse(const char* name, const Sparse& kernel, const Sparse& scalar, const TestCache& cache, int rows,
                 float keep_ratio) {
  const int k = static_cast<int>(keep_ratio * static_cast<float>(cache.n)), d = cache.head_dim, stride = k + 16;
  const AlignedVector<float> q = RandomQueries(rows, d);
  std::vector<int32_t> selected(static_cast<size_t>(rows * stride)), counts(static_cast<size_t>(rows), k);
  for (int r = 0; r < rows; ++r) {
    for (int p = 0, i = 0; p < cache.n && i < k; ++p) {
      if (testing::RandomInt(1, cache.n - p) <= k - i) selected[static_cast<size_t>(r * stride + i++)] = p;
    }
  }
  const int weights_stride = (k + 15) / 16 * 16 + 16;
  AlignedVector<float> scratch(static_cast<size_t>(SparseScratchFloats(rows, d)));
  AlignedVector<float> weights(static_cast<size_t>(rows * weights_stride));
  AlignedVector<float> start(static_cast<size_t>(rows * PaddedFloats(d)));
  std::vector<float> out(static_cast<size_t>(rows * d)), expected(out.size()), sums(static_cast<size_t>(rows), 1.0f);
  std::vector<float*> out_rows, expected_rows;
  for (int r = 0; r < rows; ++r) {
    out_rows.push_back(out.data() + r * d);
    expected_rows.push_back(expected.data() + r * d);
  }
  const Selection selection{selected.data(), stride, counts.data(), rows};
  const auto softmax = [&](const Sparse& which) {
    which.softmax({q.data(), selection, 0.125f, weights.data(), weights_stride, sums.data()}, cache.view(),
                  scratch.data());
  };
  const auto add = [&](const Sparse& which, float* const* to, bool allow_fp16) {
    std::fill(start.begin(), start.end(), 0.0f);
    which.add(
        {selection, weights.data(), weights_stride, nullptr, 0, nullptr, 0, start.data(), sums.data(), to, allow_fp16},
        cache.view());
  };
  for (const auto& [which, to] : {std::pair{&scalar, expected_rows.data()}, std::pair{&kernel, out_rows.data()}}) {
    softmax(*which);
    for (float& sum : sums) sum = 1.0f / sum;
    add(*which, to, false);
  }
  CheckClose(out.data(), expected.data(), rows * d, name);
  add(kernel, out_rows.data(), true);
  CheckClose(out.data(), expected.data(), rows * d, name, 4e-3f);  // values of magnitude 2, 2^-9 of that
  const double values_ns = testing::Nanoseconds([&] { add(kernel, out_rows.data(), true); }) / k / rows;
  const double weights_ns = testing::Nanoseconds([&] { softmax(kernel); }) / k / rows;
  std::printf(
      "attend %-16s d %3d kv_len %5d rows %2d keep_ratio %.2f: weights %5.2f, values %5.2f ns/selected key, %.0f "
      "GFLOP/s\n",
      name, d, cache.n, rows, static_cast<double>(keep_ratio), weights_ns, values_ns, 2 * d / values_ns);
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

void BenchType(const char* name, const Sparse& sparse, AttendDenseFn dense, CacheType type) {
  const bool f32 = type == CacheType::kFloat32;
  for (int d : {64, 128}) {
    for (int kv_len : {2048, 8192}) {
      const TestCache cache(kv_len, d, type, 1.0f);
      for (float keep_ratio : {0.05f, 0.2f}) {
        for (int rows : {3, 48}) {
          BenchSparse(name, sparse,
                      f32 ? Sparse{SoftmaxSelectedF32Scalar, AddValuesF32Scalar}
                          : Sparse{SoftmaxSelectedF16Scalar, AddValuesF16Scalar},
                      cache, rows, keep_ratio);
        }
      }
      for (int rows : {1, 3, 48, 96}) {
        BenchDense(name, dense, f32 ? AttendDenseF32Scalar : AttendDenseF16Scalar, cache, rows);
      }
    }
  }
}

void BenchAll() {
#define SHADOW_KERNEL(needed, name)                                                                                    \
  if (testing::HasArch(#name, needed)) {                                                                               \
    BenchType("F16" #name, {SoftmaxSelectedF16##name, AddValuesF16##name}, AttendDenseF16##name, CacheType::kFloat16); \
    BenchType("F32" #name, {SoftmaxSelectedF32##name, AddValuesF32##name}, AttendDenseF32##name, CacheType::kFloat32); \
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
