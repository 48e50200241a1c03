// ns per (query, key) pair and GOP/s of the estimate kernels: a tile of queries against pages of keys that lie in L2.
#include "kernels/benching.h"
#include "kernels/estimate/kernels.h"
#include "kernels/testing.h"

namespace shadow {
namespace {

constexpr int kPages = 128;

void Bench(const char* name, EstimateFn kernel, int d, int rows, int lowest) {
  const size_t page = static_cast<size_t>(kPageRows * d), tile = static_cast<size_t>(rows * kPageRows);
  std::vector<int8_t> q(static_cast<size_t>(rows * d));
  std::vector<int32_t> q_sum(static_cast<size_t>(rows));
  testing::AlignedVector<uint8_t> k(page * kPages);
  for (size_t i = 0; i < q.size(); ++i) {
    q[i] = static_cast<int8_t>(testing::RandomInt(lowest, 127));
    q_sum[i / static_cast<size_t>(d)] += q[i];
  }
  for (uint8_t& byte : k) byte = static_cast<uint8_t>(testing::RandomInt(1, 255));
  testing::AlignedVector<int32_t> scores(tile), expected(tile);
  const auto run = [&] {
    for (size_t p = kPages; p-- > 0;) {
      kernel({q.data(), q_sum.data(), rows}, k.data() + p * page, d, scores.data(), kPageRows);
    }
  };
  run();
  EstimateScalar({q.data(), q_sum.data(), rows}, k.data(), d, expected.data(), kPageRows);
  for (size_t i = 0; i < tile; ++i) SHADOW_CHECK(scores[i] == expected[i], "%s", name);
  const double ns = testing::Nanoseconds(run) / (rows * kPageRows * kPages);
  std::printf("estimate %-10s d %3d rows %2d: %.3f ns/pair, %.0f GOP/s\n", name, d, rows, ns, 2 * d / ns);
}

void BenchAll() {
#define SHADOW_KERNEL(needed, name)                                                       \
  if (testing::HasArch(#name, needed)) {                                                  \
    for (int d : {64, 128}) {                                                             \
      for (int rows : {1, 3, 6, 16, 48, 96}) Bench(#name, Estimate##name, d, rows, -127); \
      Bench("+" #name, EstimatePositive##name, d, 48, 0);                                 \
    }                                                                                     \
  }
#include "kernels/estimate/kernels.inc"
#undef SHADOW_KERNEL
}

}  // namespace
}  // namespace shadow

int main() {
  shadow::testing::Start("estimate bench");
  shadow::BenchAll();
  return shadow::testing::Finish();
}
