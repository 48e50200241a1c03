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

template <class S>
S RandomScore() {
  const float spread = static_cast<float>(sizeof(S) == 1 ? 30 : 200000);
  const float score = RandomInt(0, 40) == 0 ? 4 * spread : spread * RandomNormal();
  return static_cast<S>(sizeof(S) == 1 ? std::clamp(score, -128.0f, 127.0f) : score);
}

// Rows of one page, with guards behind what a kernel may write. Positions that a row does not see hold a large
// score: nothing of it may count.
template <class S>
struct Page {
  static constexpr int kRows = 5, kStride = 2 * kPageRows;

  Page(int skip, bool all_seen, float spread, bool far)
      : weights(kRows * kStride, std::numeric_limits<float>::quiet_NaN()), sums(2 * kRows, -7.0f), mass(kRows, 0.5f) {
    for (int r = 0; r < kRows; ++r) {
      seen.push_back(all_seen ? kPageRows : RandomInt(1, kPageRows));
      for (int j = 0; j < kPageRows; ++j) {
        scores.push_back(j < seen.back() ? RandomScore<S>() : std::numeric_limits<S>::max() / 4);
      }
      reference.push_back(far ? std::numeric_limits<S>::min() / 2 : *std::max_element(Scores(r), Scores(r) + seen[r]));
      factor.push_back(WeightFactor(spread / static_cast<float>(sizeof(S) == 1 ? 30 : 200000)));
    }
    job = {scores.data(), kRows,          reference.data(), factor.data(), all_seen ? nullptr : seen.data(),
           skip,          weights.data(), kStride,          sums.data(),   2,
           mass.data()};
  }
  const S* Scores(int r) const { return scores.data() + r * kPageRows; }

  std::vector<S> scores, reference;
  std::vector<float> factor;
  std::vector<int32_t> seen;
  AlignedVector<float> weights;
  std::vector<float> sums, mass;
  WeighJob<S> job;
};

template <class S>
using WeighFn = void (*)(const WeighJob<S>&);

template <class S>
void CheckPage(const Page<S>& page, float spread, const char* name) {
  const double unit = static_cast<double>(spread) / (sizeof(S) == 1 ? 30 : 200000);
  for (int r = 0; r < Page<S>::kRows; ++r) {
    const auto row = static_cast<size_t>(r);
    double total = 0;
    for (int j = 0; j < kPageRows; ++j) {
      const auto weight = static_cast<double>(page.weights[row * Page<S>::kStride + static_cast<size_t>(j)]);
      const double below = static_cast<double>(page.Scores(r)[j]) - static_cast<double>(page.reference[row]);
      const double x = j < page.seen[row] ? unit * below : -1e9, exact = std::fmin(std::exp(x), 1.7e38);
      const double tolerance = exact * (7e-4 + 2.4e-7 * std::fabs(x) + 2e-5) + 2.4e-38;
      worst = std::fmax(worst, std::fabs(weight - exact) / tolerance);
      SHADOW_CHECK(std::fabs(weight - exact) <= tolerance, "%s row %d weight %d: %g, not %g", name, r, j, weight,
                   exact);
      if (j >= page.job.skip) total += weight;
    }
    const auto sum = static_cast<double>(page.sums[2 * row]);
    SHADOW_CHECK(std::fabs(sum - total) <= 1e-5 * total, "%s row %d skip %d: sum %g, not %g", name, r, page.job.skip,
                 sum, total);
    SHADOW_CHECK(page.mass[row] == 0.5f + page.sums[2 * row], "%s row %d: mass", name, r);
    SHADOW_CHECK(page.sums[2 * row + 1] == -7.0f, "%s row %d: wrote past its sum", name, r);
    for (int j = kPageRows; j < Page<S>::kStride; ++j) {
      const float guard = page.weights[row * Page<S>::kStride + static_cast<size_t>(j)];
      SHADOW_CHECK(guard != guard, "%s row %d: wrote past its page", name, r);
    }
  }
}

template <class S>
void TestWeigh(WeighFn<S> kernel, WeighFn<S> scalar, const char* name) {
  for (int skip : {0, 1, 15, 16, 17, 63, 64}) {
    for (float spread : {0.0f, 0.5f, 4.0f, 60.0f, 1e33f}) {
      for (bool all_seen : {false, true}) {
        Page<S> page(skip, all_seen, spread, false), same = page;
        same.job.weights = same.weights.data();
        same.job.sums = same.sums.data();
        same.job.mass = same.mass.data();
        kernel(page.job);
        scalar(same.job);
        SHADOW_CHECK(SameBits(page.weights, same.weights), "%s: other bits than the portable kernel", name);
        SHADOW_CHECK(page.sums == same.sums && page.mass == same.mass, "%s: other sums", name);
        if (spread < 1e30f) CheckPage(page, spread, name);
      }
    }
  }
  Page<S> page(0, true, 60.0f, true);  // far above the reference: bounded, not infinite
  kernel(page.job);
  for (int r = 0; r < Page<S>::kRows; ++r) {
    SHADOW_CHECK(page.weights[static_cast<size_t>(r) * Page<S>::kStride] < 2e38f, "%s: overflow", name);
  }
}

// Some rows, listed: what becomes of them is what becomes of all, and the others are left alone.
template <class S>
void TestWeighSome(WeighFn<S> kernel, const char* name) {
  Page<S> all(3, false, 4.0f, false), some = all;
  kernel(all.job);
  const std::vector<int32_t> at{3, 0, 4};
  std::vector<S> scores;
  for (int32_t r : at) scores.insert(scores.end(), some.Scores(r), some.Scores(r) + kPageRows);
  some.job = {scores.data(),         int(at.size()),
              some.reference.data(), some.factor.data(),
              some.seen.data(),      3,
              some.weights.data(),   Page<S>::kStride,
              some.sums.data(),      2,
              some.mass.data(),      at.data()};
  kernel(some.job);
  for (int r = 0; r < Page<S>::kRows; ++r) {
    const bool listed = std::find(at.begin(), at.end(), r) != at.end();
    const auto row = static_cast<size_t>(r);
    const float* weights = some.weights.data() + row * Page<S>::kStride;
    const bool same = std::memcmp(weights, all.weights.data() + row * Page<S>::kStride, kPageRows * 4) == 0;
    SHADOW_CHECK(listed ? same : weights[0] != weights[0], "%s: row %d", name, r);
    SHADOW_CHECK(some.sums[2 * row] == (listed ? all.sums[2 * row] : -7.0f), "%s: sum of row %d", name, r);
    SHADOW_CHECK(some.mass[row] == (listed ? all.mass[row] : 0.5f), "%s: mass of row %d", name, r);
  }
}

AlignedVector<float> RandomWeights(int n) {
  AlignedVector<float> weights(Rounded(n));
  for (int i = 0; i < n; ++i) weights[static_cast<size_t>(i)] = std::exp(-RandomFloat(0.0f, 12.0f));
  return weights;
}

std::vector<float> PageSums(const AlignedVector<float>& weights, int n, int keep_below) {
  std::vector<float> sums(Rounded(n) / kPageRows, 0.0f);
  for (int j = keep_below; j < n; ++j) sums[static_cast<size_t>(j / kPageRows)] += weights[static_cast<size_t>(j)];
  return sums;
}

// A row split by the kernel, with guards behind what it may write.
struct Split {
  Split(const AlignedVector<float>& weights, int n, float threshold, int keep_below, int keep_from)
      : positions(static_cast<size_t>(n) + 17, -7),
        kept(static_cast<size_t>(n) + 17, -7.0f),
        shares(static_cast<size_t>(n) + 17, -7.0f),
        rest(Rounded(n) / kPageRows + 1, -7.0f),
        sums(PageSums(weights, n, keep_below)),
        row{weights.data(), sums.data(),      n,           threshold,     keep_below,
            keep_from,      positions.data(), kept.data(), shares.data(), rest.data()} {}
  std::vector<int32_t> positions;
  std::vector<float> kept;
  std::vector<float> shares;
  std::vector<float> rest;
  std::vector<float> sums;
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

// Pages that were not scored hold anything: the outcome is that of a row in which they are zero.
void TestChooseSome(ChooseFn kernel, const char* name) {
  for (int n : {1100, 64 * 64, 64 * 64 + 1, 64 * 130 + 7}) {
    const int keep_below = RandomInt(0, 130), keep_from = n - RandomInt(1, 130);
    AlignedVector<float> zeroed = RandomWeights(n);
    AlignedVector<float> weights = zeroed;
    std::vector<uint64_t> scored(static_cast<size_t>(n / 4096 + 1), ~uint64_t{0});
    for (int page = (keep_below + 63) / kPageRows; page < keep_from / kPageRows; ++page) {
      if (RandomInt(0, 1) == 0) continue;
      scored[static_cast<size_t>(page / 64)] &= ~(uint64_t{1} << page % 64);
      for (int j = 0; j < kPageRows; ++j) {
        weights[static_cast<size_t>(page * kPageRows + j)] = 1e30f;
        zeroed[static_cast<size_t>(page * kPageRows + j)] = 0;
      }
    }
    Split split(weights, n, 0.05f, keep_below, keep_from), expected(zeroed, n, 0.05f, keep_below, keep_from);
    split.row.scored = scored.data();
    const int count = kernel(split.row), wanted = kernel(expected.row);
    SHADOW_CHECK(count == wanted, "%s n %d: %d kept, not %d", name, n, count, wanted);
    const auto k = static_cast<size_t>(std::min(count, wanted));
    SHADOW_CHECK(std::equal(split.positions.begin(), split.positions.begin() + k, expected.positions.begin()) &&
                     std::equal(split.kept.begin(), split.kept.begin() + k, expected.kept.begin()) &&
                     std::equal(split.shares.begin(), split.shares.begin() + k, expected.shares.begin()),
                 "%s n %d: what is kept", name, n);
    SHADOW_CHECK(split.rest == expected.rest, "%s n %d: the rest", name, n);
  }
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
    TestWeighSome(WeighInt32##name, "WeighInt32" #name);                  \
    TestWeighSome(WeighInt8##name, "WeighInt8" #name);                    \
    TestChoose(Choose##name, "Choose" #name);                             \
    TestChooseSome(Choose##name, "Choose" #name);                         \
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
