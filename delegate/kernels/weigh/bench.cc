// ns per score of the weigh kernels: weights of a row, the masses above two thresholds, the split of the row.
#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "kernels/benching.h"
#include "kernels/testing.h"
#include "kernels/weigh/kernels.h"

namespace shadow {
namespace {

using testing::AlignedVector;

struct Kernels {
  WeighInt32Fn weigh;
  ChooseFn choose;
};

void Bench(const char* name, const Kernels& kernels, int n, float keep) {
  const auto size = static_cast<size_t>(n);
  std::vector<int32_t> scores(size), positions(size + 16);
  for (int32_t& s : scores) s = static_cast<int32_t>(40000.0f * testing::RandomNormal());
  AlignedVector<float> weights(size), expected(size), kept(size + 16), shares(size + 16), rest(size / kPageRows);
  const float scale = 1e-4f;
  kernels.weigh(scores.data(), n, 4, scale, weights.data());
  WeighInt32Scalar(scores.data(), n, 4, scale, expected.data());
  SHADOW_CHECK(weights == expected, "%s", name);
  AlignedVector<float> sorted = weights;
  std::sort(sorted.begin(), sorted.end(), std::greater<float>());
  const float threshold = sorted[static_cast<size_t>(keep * static_cast<float>(n))];
  const ChooseRow row{weights.data(),   n,           threshold,     4,          n - 8,
                      positions.data(), kept.data(), shares.data(), rest.data()};
  const double weigh = testing::Nanoseconds([&] { kernels.weigh(scores.data(), n, 4, scale, weights.data()); });
  const double choose = testing::Nanoseconds([&] { kernels.choose(row); });
  std::printf("weigh %-8s n %5d keep %.2f: weigh %.3f, choose %.3f ns/score\n", name, n, static_cast<double>(keep),
              weigh / n, choose / n);
}

void BenchAll() {
#define SHADOW_KERNEL(needed, name)                              \
  if (testing::HasArch(#name, needed)) {                         \
    for (int n : {512, 2048, 8192}) {                            \
      for (float keep : {0.02f, 0.1f}) {                         \
        Bench(#name, {WeighInt32##name, Choose##name}, n, keep); \
      }                                                          \
    }                                                            \
  }
#include "kernels/weigh/kernels.inc"
#undef SHADOW_KERNEL
}

}  // namespace
}  // namespace shadow

int main() {
  shadow::testing::Start("weigh bench");
  shadow::BenchAll();
  return shadow::testing::Finish();
}
