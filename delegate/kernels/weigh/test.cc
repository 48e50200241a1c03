// Every weigh kernel of this machine: weights against exp in float64, sums and kept positions against the portable
// kernel (their bits must be the same on every ISA), and the split of a row against one written out plainly.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/testing.h"
#include "kernels/weigh/kernels.h"

namespace shadow {
namespace {

using testing::AlignedVector;
using testing::RandomFloat;
using testing::RandomInt;
using testing::RandomNormal;

constexpr int kSizes[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 500, 1023, 1024, 1025};

size_t Rounded(int n) { return static_cast<size_t>(n + kPageRows - 1) / kPageRows * kPageRows; }

bool SameBits(const AlignedVector<float>& a, const AlignedVector<float>& b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

double worst = 0;

// What follows the scores is as large as a score can be: nothing of it may count.
template <class S>
std::vector<S> RandomScores(int n) {
  std::vector<S> scores(Rounded(n) + 64, std::numeric_limits<S>::max());
  const float spread = static_cast<float>(sizeof(S) == 1 ? 30 : 200000);
  for (int i = 0; i < n; ++i) {
    const float score = RandomInt(0, 40) == 0 ? 4 * spread : spread * RandomNormal();
    scores[static_cast<size_t>(i)] = static_cast<S>(sizeof(S) == 1 ? std::clamp(score, -128.0f, 127.0f) : score);
  }
  return scores;
}

template <class S>
void TestWeigh(float (*kernel)(const S*, int, int, float, float*), float (*scalar)(const S*, int, int, float, float*),
               const char* name) {
  for (int n : kSizes) {
    for (float spread : {0.0f, 0.5f, 4.0f, 60.0f}) {
      const std::vector<S> scores = RandomScores<S>(n);
      const float scale = spread / static_cast<float>(sizeof(S) == 1 ? 30 : 200000);
      const float nan = std::numeric_limits<float>::quiet_NaN();
      AlignedVector<float> weights(Rounded(n), nan), expected(Rounded(n), nan);
      const int skip = std::min(n, RandomInt(0, 2) == 0 ? 0 : RandomInt(0, 40));
      const float sum = kernel(scores.data(), n, skip, scale, weights.data());
      const float expected_sum = scalar(scores.data(), n, skip, scale, expected.data());
      SHADOW_CHECK(SameBits(weights, expected), "%s n %d: other bits than the portable kernel", name, n);
      SHADOW_CHECK(sum == expected_sum, "%s n %d: sum %g, not %g", name, n, static_cast<double>(sum),
                   static_cast<double>(expected_sum));
      double total = 0;
      for (int j = skip; j < n; ++j) total += static_cast<double>(weights[static_cast<size_t>(j)]);
      SHADOW_CHECK(std::fabs(static_cast<double>(sum) - total) <= 1e-5 * total, "%s n %d skip %d: sum %g, not %g", name,
                   n, skip, static_cast<double>(sum), total);
      const double largest = static_cast<double>(*std::max_element(scores.begin(), scores.begin() + n));
      for (size_t j = 0; j < weights.size(); ++j) {
        const double x =
            j < static_cast<size_t>(n) ? static_cast<double>(scale) * (static_cast<double>(scores[j]) - largest) : -1e9;
        const double exact = std::exp(x), error = std::fabs(static_cast<double>(weights[j]) - exact);
        const double tolerance = exact * (7e-4 + 2.4e-7 * std::fabs(x)) + 2.4e-38;
        worst = std::fmax(worst, error / tolerance);
        SHADOW_CHECK(error <= tolerance, "%s n %d weight %zu: %g, not %g", name, n, j, static_cast<double>(weights[j]),
                     exact);
      }
    }
  }
}

AlignedVector<float> RandomWeights(int n) {
  AlignedVector<float> weights(Rounded(n));
  for (int i = 0; i < n; ++i) weights[static_cast<size_t>(i)] = std::exp(-RandomFloat(0.0f, 12.0f));
  return weights;
}

// A row split by the kernel, with guards behind what it may write.
struct Split {
  Split(const AlignedVector<float>& weights, int n, float threshold, int keep_below, int keep_from)
      : positions(static_cast<size_t>(n) + 17, -7),
        kept(static_cast<size_t>(n) + 17, -7.0f),
        shares(static_cast<size_t>(n) + 17, -7.0f),
        rest(Rounded(n) / kPageRows + 1, -7.0f),
        row{weights.data(),   n,           threshold,     keep_below, keep_from,
            positions.data(), kept.data(), shares.data(), rest.data()} {}
  std::vector<int32_t> positions;
  std::vector<float> kept;
  std::vector<float> shares;
  std::vector<float> rest;
  ChooseRow row;
};

// One page, whose picks are first .. k - 1: what its rest, `mean` per position, was spread over.
void CheckRest(const Split& split, const char* name, int page, int first, int k, double mean) {
  const int below = split.row.keep_below;
  const auto takes = static_cast<int>(std::count_if(split.positions.begin() + first, split.positions.begin() + k,
                                                    [below](int32_t position) { return position >= below; }));
  const int positions = std::min(kPageRows, split.row.n - page * kPageRows);
  const double even = takes == 0 ? mean : mean * 0.75, tolerance = 1e-5 * (1e-3 + mean);
  const double rest = static_cast<double>(split.rest[static_cast<size_t>(page)]);
  SHADOW_CHECK(std::fabs(rest - even) <= tolerance, "%s page %d: rest %g, not %g", name, page, rest, even);
  for (int i = first; i < k; ++i) {
    const auto at = static_cast<size_t>(i);
    const double share = static_cast<double>(split.shares[at]);
    const double wanted = split.positions[at] < below ? 0.0 : mean * 0.25 * positions / takes;
    SHADOW_CHECK(std::fabs(share - wanted) <= positions * tolerance, "%s pick %d: share %g, not %g", name, i, share,
                 wanted);
  }
}

void TestChooseRow(ChooseFn kernel, const char* name, int n, float threshold, int keep_below, int keep_from) {
  const AlignedVector<float> weights = RandomWeights(n);
  Split split(weights, n, threshold, keep_below, keep_from), expected(weights, n, threshold, keep_below, keep_from);
  const int count = kernel(split.row);
  ChooseScalar(expected.row);
  int k = 0;
  for (int page = 0; page * kPageRows < n; ++page) {
    double rest = 0;
    const int first = k, end = std::min(n, (page + 1) * kPageRows);
    for (int j = page * kPageRows; j < end; ++j) {
      const float w = weights[static_cast<size_t>(j)];
      if (w < threshold && j >= keep_below && j < keep_from) {
        rest += static_cast<double>(w);
        continue;
      }
      const auto i = static_cast<size_t>(k);
      SHADOW_CHECK(split.positions[i] == j && split.kept[i] == w, "%s n %d: pick %d is %d", name, n, k,
                   split.positions[i]);
      ++k;
    }
    CheckRest(split, name, page, first, k, rest / (end - page * kPageRows));
    const auto b = static_cast<size_t>(page);
    SHADOW_CHECK(split.rest[b] == expected.rest[b], "%s n %d page %d: other bits", name, n, page);
  }
  SHADOW_CHECK(std::equal(split.shares.begin(), split.shares.begin() + k, expected.shares.begin()), "%s n %d: shares",
               name, n);
  SHADOW_CHECK(count == k, "%s n %d: %d kept, not %d", name, n, count, k);
  SHADOW_CHECK(split.positions.back() == -7 && split.kept.back() == -7.0f && split.rest.back() == -7.0f &&
                   split.shares.back() == -7.0f,
               "%s n %d: wrote past its room", name, n);
}

void TestChoose(ChooseFn kernel, const char* name) {
  for (int n : kSizes) {
    for (float threshold : {0.0f, 0.01f, 0.3f, 2.0f}) {
      TestChooseRow(kernel, name, n, threshold, 0, n);
      TestChooseRow(kernel, name, n, threshold, std::min(n, RandomInt(0, 70)), RandomInt(std::max(0, n - 70), n));
      TestChooseRow(kernel, name, n, threshold, n, 0);
    }
  }
}

void TestAll() {
#define SHADOW_KERNEL(needed, name)                                       \
  if (testing::HasArch(#name, needed)) {                                  \
    TestWeigh(WeighInt32##name, WeighInt32Scalar, "WeighInt32" #name);    \
    TestWeigh(WeighInt8##name, WeighInt8Scalar, "WeighInt8" #name);       \
    TestChoose(Choose##name, "Choose" #name);                             \
    SHADOW_CHECK(GetWeighInt32Kernel(needed) == WeighInt32##name, #name); \
    SHADOW_CHECK(GetWeighInt8Kernel(needed) == WeighInt8##name, #name);   \
    SHADOW_CHECK(GetChooseKernel(needed) == Choose##name, #name);         \
  }
#include "kernels/weigh/kernels.inc"
#undef SHADOW_KERNEL
  std::printf("  worst error of a weight: %.2f of the tolerance\n", worst);
}

}  // namespace
}  // namespace shadow

int main() {
  shadow::testing::Start("weigh");
  shadow::TestAll();
  return shadow::testing::Finish();
}
