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

// Pages of one row after the other, as many rows at a time as the op has of a long context.
void Bench(const char* name, const Kernels& kernels, int n, float keep) {
  constexpr int kRows = 12;
  const auto size = static_cast<size_t>(n), pages = size / kPageRows;
  std::vector<int32_t> scores(kRows * kPageRows), positions(size + 16), reference(kRows, 100000);
  for (int32_t& s : scores) s = static_cast<int32_t>(40000.0f * testing::RandomNormal());
  AlignedVector<float> weights(kRows * size), kept(size + 16), shares(size + 16), rest(pages);
  std::vector<float> factor(kRows, WeightFactor(1e-4f)), sums(kRows * pages), mass(kRows);
  const auto weigh_all = [&] {
    for (size_t page = 0; page < pages; ++page) {
      kernels.weigh({scores.data(), kRows, reference.data(), factor.data(), nullptr, 0,
                     weights.data() + page * kPageRows, n, sums.data() + page, static_cast<int64_t>(pages),
                     mass.data()});
    }
  };
  weigh_all();
  for (size_t j = 0; j < size; ++j) weights[j] = std::exp(testing::RandomNormal() * 3);  // of the first row
  AlignedVector<float> sorted(weights.begin(), weights.begin() + n);
  std::sort(sorted.begin(), sorted.end(), std::greater<float>());
  const float threshold = sorted[static_cast<size_t>(keep * static_cast<float>(n))];
  const ChooseRow row{weights.data(), sums.data(),      n,           threshold,     4,
                      n - 8,          positions.data(), kept.data(), shares.data(), rest.data()};
  const double choose = testing::Nanoseconds([&] { kernels.choose(row); });
  const double weigh = testing::Nanoseconds(weigh_all);
  std::printf("weigh %-8s n %5d keep %.2f: weigh %.3f, choose %.3f ns/score\n", name, n, static_cast<double>(keep),
              weigh / n / kRows, choose / n);
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
