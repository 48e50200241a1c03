// ns per score of the softmax kernels (weights and sums of some rows, the listed pages stored) and of the selection by
// threshold.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/benching.h"
#include "kernels/softmax/kernels.h"
#include "kernels/testing.h"

namespace shadow {
namespace {

using testing::AlignedVector;

struct Kernels {
  SoftmaxInt32Fn softmax;
  SelectByThresholdFn select_by_threshold;
};

// Pages of some rows, the last page first; a share keep_ratio of the positions reaches the threshold.
void Bench(const char* name, const Kernels& kernels, int n, float keep_ratio) {
  constexpr int kRows = 48;
  const auto size = static_cast<size_t>(n), pages = size / kPageRows, room = size + kPageRows;
  std::vector<int32_t> scores(kRows * size), positions(size + 16), listed(kRows * (pages + 1));
  for (int32_t& s : scores) s = static_cast<int32_t>(40000.0f * testing::RandomNormal());
  AlignedVector<float> weights(kRows * room), selected_weights(size + 16), selected_residual(size + 16),
      page_residual(pages), sums(kRows * pages);
  std::vector<int32_t> sorted(scores.begin(), scores.begin() + n);
  std::sort(sorted.begin(), sorted.end());
  const int32_t least = sorted[static_cast<size_t>((1 - keep_ratio) * static_cast<float>(n - 1))];
  const float threshold = std::exp(1e-4f * static_cast<float>(least - 100000));
  std::vector<SoftmaxRow<int32_t>> rows(kRows);
  const auto softmax = [&] {
    for (size_t r = 0; r < kRows; ++r) {
      rows[r] = {100000, WeightFactor(1e-4f), threshold, 0, weights.data() + r * room, listed.data() + r * (pages + 1)};
    }
    for (size_t page = pages; page-- > 0;) {
      kernels.softmax({scores.data() + page * kRows * kPageRows, kRows, rows.data(), nullptr, 0,
                       static_cast<int32_t>(page), sums.data() + page * kRows});
    }
  };
  const double softmax_ns = testing::Nanoseconds(softmax);
  const auto blocks = static_cast<int>(rows[0].page - listed.data());
  const ThresholdRow row{weights.data(),
                         listed.data(),
                         blocks,
                         n,
                         threshold,
                         4,
                         n - 8,
                         positions.data(),
                         selected_weights.data(),
                         selected_residual.data(),
                         page_residual.data(),
                         1};
  const double select_ns = testing::Nanoseconds([&] { kernels.select_by_threshold(row); });
  std::printf("softmax %-8s n %5d keep_ratio %.2f: softmax %.3f, select %.3f ns/score, %.2f of the pages listed\n",
              name, n, static_cast<double>(keep_ratio), softmax_ns / n / kRows, select_ns / n,
              blocks / static_cast<double>(pages));
}

void BenchAll() {
#define SHADOW_KERNEL(needed, name)                                                 \
  if (testing::HasArch(#name, needed)) {                                            \
    for (int n : {512, 2048, 8192}) {                                               \
      for (float keep_ratio : {0.02f, 0.1f}) {                                      \
        Bench(#name, {SoftmaxInt32##name, SelectByThreshold##name}, n, keep_ratio); \
      }                                                                             \
    }                                                                               \
  }
#include "kernels/softmax/kernels.inc"
#undef SHADOW_KERNEL
}

}  // namespace
}  // namespace shadow

int main() {
  shadow::testing::Start("softmax bench");
  shadow::BenchAll();
  return shadow::testing::Finish();
}
