// Every softmax kernel of this machine: weights against exp in float64, sums and selected positions against the
// portable kernel (their bits must be identical on every ISA), and the selection of a row against one written out
// plainly.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "kernels/softmax/kernels.h"
#include "kernels/testing.h"

namespace shadow {
namespace {

using testing::AlignedVector;
using testing::RandomFloat;
using testing::RandomInt;
using testing::RandomNormal;

constexpr int kSizes[] = {1,  2,  7,  8,   9,   15,  16,  17,  31,   32,   33,   63,  64,
                          65, 66, 99, 100, 127, 128, 129, 500, 1023, 1024, 1025, 8259};

size_t Rounded(int n) { return static_cast<size_t>(n + kPageRows - 1) / kPageRows * kPageRows; }

// Whether all bits are equal, but for the last ones of weights below 2^-64.
bool SameBits(const AlignedVector<float>& a, const AlignedVector<float>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::memcmp(&a[i], &b[i], sizeof(float)) == 0) continue;
    if (!(a[i] < 6e-20f && std::fabs(a[i] - b[i]) <= 3e-7f * a[i] + FLT_MIN)) return false;
  }
  return true;
}

double worst = 0;

template <class S>
S RandomScore() {
  const float spread = static_cast<float>(sizeof(S) == 1 ? 30 : 200000);
  const float score = RandomInt(0, 40) == 0 ? 4 * spread : spread * RandomNormal();
  return static_cast<S>(sizeof(S) == 1 ? std::clamp(score, -128.0f, 127.0f) : score);
}

// One page of some rows, with guard values before and after what a kernel may write. Hidden positions hold a large
// score, which must not count.
template <class S>
struct Page {
  static constexpr int kRows = 19, kStride = 3 * kPageRows, kPages = 3;

  Page(int skip, bool all_visible, float spread, bool far)
      : listed(kRows * kPages, -7),
        weights(kRows * kStride, std::numeric_limits<float>::quiet_NaN()),
        sums(kRows + 1, -7.0f) {
    for (int r = 0; r < kRows; ++r) {
      visible.push_back(all_visible ? kPageRows : RandomInt(1, kPageRows));
      for (int j = 0; j < kPageRows; ++j) {
        scores.push_back(j < visible.back() ? RandomScore<S>() : std::numeric_limits<S>::max() / 4);
      }
      const S best = *std::max_element(Scores(r), Scores(r) + visible.back());
      rows.push_back({far ? S(std::numeric_limits<S>::min() / 2) : best,
                      WeightFactor(spread / static_cast<float>(sizeof(S) == 1 ? 30 : 200000)),
                      std::exp2(RandomFloat(-3.0f, 1.0f)), 0.5f, nullptr, nullptr});
    }
    job.rows = kRows, job.skip = skip, job.page = 5;
    job.visible = all_visible ? nullptr : visible.data();
    Point();
  }
  Page(const Page& other)
      : scores(other.scores),
        rows(other.rows),
        visible(other.visible),
        listed(other.listed),
        weights(other.weights),
        sums(other.sums),
        job(other.job) {
    if (job.visible != nullptr) job.visible = visible.data();
    Point();
  }
  Page& operator=(const Page&) = delete;
  void Point() {
    job.scores = scores.data(), job.row = rows.data(), job.sums = sums.data();
    for (int r = 0; r < kRows; ++r) {
      rows[static_cast<size_t>(r)].block = weights.data() + r * kStride + kPageRows;
      rows[static_cast<size_t>(r)].page = listed.data() + r * kPages + 1;
    }
  }
  const S* Scores(int r) const { return scores.data() + r * kPageRows; }
  const SoftmaxRow<S>& row(int r) const { return rows[static_cast<size_t>(r)]; }
  // The block that the kernel wrote: the second of three.
  const float* Weights(int r) const { return weights.data() + r * kStride + kPageRows; }
  // How many pages of row r the kernel listed.
  int64_t Listed(int r) const {
    const int64_t blocks = (row(r).block - Weights(r)) / kPageRows;
    SHADOW_CHECK(blocks == row(r).page - (listed.data() + r * kPages + 1), "row %d: blocks and pages differ", r);
    return blocks;
  }

  std::vector<S> scores;
  std::vector<SoftmaxRow<S>> rows;
  std::vector<int32_t> visible, listed;
  AlignedVector<float> weights;
  std::vector<float> sums;
  SoftmaxJob<S> job{};
};

template <class S>
using SoftmaxFn = void (*)(const SoftmaxJob<S>&);

// Row r's weights against exp; returns their sum without the skipped ones, and their largest.
template <class S>
std::pair<double, float> CheckWeights(const Page<S>& page, int r, float spread, const char* name) {
  const auto row = static_cast<size_t>(r);
  const double unit = static_cast<double>(spread) / (sizeof(S) == 1 ? 30 : 200000);
  double total = 0;
  float largest = 0;
  for (int j = 0; j < kPageRows; ++j) {
    const float weight = page.Weights(r)[j];
    const double x = unit * (static_cast<double>(page.Scores(r)[j]) - static_cast<double>(page.row(r).reference));
    const double exact = j < page.visible[row] ? std::exp(x) : 0.0;
    const double tolerance = exact * (2.65e-3 + 4e-6 + 2.4e-7 * std::fabs(x)) + 1.2e-38;
    const double error = std::fabs(static_cast<double>(weight) - exact);
    worst = std::fmax(worst, error / tolerance);
    SHADOW_CHECK(error <= tolerance, "%s row %d weight %d: %g, not %g", name, r, j, static_cast<double>(weight), exact);
    if (j >= page.job.skip) total += static_cast<double>(weight);
    largest = std::max(largest, weight);
  }
  return {total, largest};
}

template <class S>
void CheckPage(const Page<S>& page, float spread, const char* name) {
  for (int r = 0; r < Page<S>::kRows; ++r) {
    const auto row = static_cast<size_t>(r);
    const auto [total, largest] = CheckWeights(page, r, spread, name);
    const auto sum = static_cast<double>(page.sums[row]);
    SHADOW_CHECK(std::fabs(sum - total) <= 1e-5 * total, "%s row %d skip %d: sum %g, not %g", name, r, page.job.skip,
                 sum, total);
    SHADOW_CHECK(page.row(r).mass == 0.5f + page.sums[row], "%s row %d: mass", name, r);
    const int32_t* listed = page.listed.data() + r * Page<S>::kPages;
    SHADOW_CHECK(listed[0] == -7 && listed[1] == 5 && listed[2] == -7, "%s row %d: listed pages", name, r);
    const int64_t more = page.Listed(r);
    SHADOW_CHECK(more == (largest >= page.row(r).cutoff ? 1 : 0), "%s row %d: largest %g, cutoff %g, listed %d", name,
                 r, static_cast<double>(largest), static_cast<double>(page.row(r).cutoff), static_cast<int>(more));
    for (int j = 0; j < kPageRows; ++j) {
      const float before = page.Weights(r)[j - kPageRows], after = page.Weights(r)[j + kPageRows];
      SHADOW_CHECK(before != before && after != after, "%s row %d: wrote past its block", name, r);
    }
  }
  SHADOW_CHECK(page.sums.back() == -7.0f, "%s: wrote past its sums", name);
}

template <class S>
void CheckSame(const Page<S>& page, const Page<S>& same, const char* name) {
  SHADOW_CHECK(SameBits(page.weights, same.weights), "%s: other bits than the portable kernel", name);
  SHADOW_CHECK(page.listed == same.listed, "%s: other pages listed", name);
  for (int r = 0; r < Page<S>::kRows; ++r) {
    const float sum = page.sums[static_cast<size_t>(r)], wanted = same.sums[static_cast<size_t>(r)];
    SHADOW_CHECK(sum == wanted || (sum < 4e-18f && wanted < 4e-18f), "%s row %d: other sum", name, r);
    SHADOW_CHECK(page.row(r).mass == same.row(r).mass && page.Listed(r) == same.Listed(r),
                 "%s row %d: other mass or other pages", name, r);
  }
}

template <class S>
void TestSoftmax(SoftmaxFn<S> kernel, SoftmaxFn<S> scalar, const char* name) {
  for (int skip : {0, 1, 15, 16, 17, 63, 64}) {
    for (float spread : {0.0f, 0.5f, 4.0f, 60.0f, 1e33f}) {
      for (bool all_visible : {false, true}) {
        Page<S> page(skip, all_visible, spread, false), same = page;
        kernel(page.job);
        scalar(same.job);
        CheckSame(page, same, name);
        if (spread < 1e30f) CheckPage(page, spread, name);
      }
    }
  }
  Page<S> page(0, true, 60.0f, true);  // scores far above the reference: the overflow must be visible in the sums
  kernel(page.job);
  for (int r = 0; r < Page<S>::kRows; ++r) {
    SHADOW_CHECK(!(page.sums[static_cast<size_t>(r)] < 3e38f), "%s: the sum hides an overflow", name);
  }
  Page<S> all(0, false, 4.0f, false);
  for (SoftmaxRow<S>& row : all.rows) row.cutoff = 0;
  kernel(all.job);
  for (int r = 0; r < Page<S>::kRows; ++r)
    SHADOW_CHECK(all.Listed(r) == 1, "%s row %d: the page is not listed", name, r);
}

// Only some rows, by index: they get the results that they get among all rows, and the other rows are not touched.
template <class S>
void TestSoftmaxSome(SoftmaxFn<S> kernel, const char* name) {
  Page<S> all(3, false, 4.0f, false), some = all;
  kernel(all.job);
  const std::vector<int32_t> at{3, 0, 4, 18};
  std::vector<S> scores;
  for (int32_t r : at) scores.insert(scores.end(), some.Scores(r), some.Scores(r) + kPageRows);
  some.job.scores = scores.data();
  some.job.rows = static_cast<int>(at.size());
  some.job.at = at.data();
  kernel(some.job);
  for (int r = 0; r < Page<S>::kRows; ++r) {
    const bool listed = std::find(at.begin(), at.end(), r) != at.end();
    const auto row = static_cast<size_t>(r);
    const bool same = std::memcmp(some.Weights(r), all.Weights(r), kPageRows * 4) == 0;
    SHADOW_CHECK(listed ? same : some.Weights(r)[0] != some.Weights(r)[0], "%s: row %d", name, r);
    SHADOW_CHECK(some.Listed(r) == (listed ? all.Listed(r) : 0), "%s: blocks of row %d", name, r);
    SHADOW_CHECK(some.sums[row] == (listed ? all.sums[row] : -7.0f), "%s: sum of row %d", name, r);
    SHADOW_CHECK(some.row(r).mass == (listed ? all.row(r).mass : 0.5f), "%s: mass of row %d", name, r);
  }
}

AlignedVector<float> RandomWeights(int n) {
  AlignedVector<float> weights(Rounded(n));
  for (int i = 0; i < n; ++i) weights[static_cast<size_t>(i)] = std::exp(-RandomFloat(0.0f, 12.0f));
  return weights;
}

constexpr float kCallers = -7.0f;  // residual of a page without a selected position: the caller writes it

// A row whose positions the kernel selects, with guard values after what it may write. Pages that hold a selected
// position are listed, and some of the others; the kernel cannot read pages that are not listed.
struct SelectedRow {
  SelectedRow(const AlignedVector<float>& all, int n, float threshold, int always_below, int always_from)
      : positions(static_cast<size_t>(n) + 17, -7),
        selected_weights(static_cast<size_t>(n) + 17, -7.0f),
        selected_residual(static_cast<size_t>(n) + 17, -7.0f),
        page_residual(2 * (Rounded(n) / kPageRows) + 1, kCallers) {
    for (int page = (n - 1) / kPageRows; page >= 0; --page) {
      const float* of_page = all.data() + page * kPageRows;
      const int begin = page * kPageRows;
      const bool forced = begin < always_below || begin + kPageRows > always_from;
      const bool any = std::any_of(of_page, of_page + kPageRows, [&](float w) { return w >= threshold; });
      if (!forced && !any && page % 3 != 0) continue;
      pages.push_back(page);
      weights.insert(weights.end(), of_page, of_page + kPageRows);
    }
    row = {weights.data(),
           pages.data(),
           static_cast<int>(pages.size()),
           n,
           threshold,
           always_below,
           always_from,
           positions.data(),
           selected_weights.data(),
           selected_residual.data(),
           page_residual.data(),
           2};
  }
  std::vector<int32_t> positions;
  std::vector<float> selected_weights;
  std::vector<float> selected_residual;
  std::vector<float> page_residual;
  std::vector<int32_t> pages;
  AlignedVector<float> weights;
  ThresholdRow row;
};

// One page, whose selected positions have the indices first .. k - 1: whether its residual, `mean` per position, went
// to the right positions.
void CheckResidual(const SelectedRow& selected, const char* name, int page, int first, int k, double mean) {
  const int below = selected.row.always_below;
  const auto page_residual = static_cast<double>(selected.page_residual[2 * static_cast<size_t>(page)]);
  SHADOW_CHECK(selected.page_residual[2 * static_cast<size_t>(page) + 1] == kCallers,
               "%s page %d: wrote beside its residual", name, page);
  if (first == k && page_residual == static_cast<double>(kCallers)) return;
  const auto takers = static_cast<int>(std::count_if(selected.positions.begin() + first, selected.positions.begin() + k,
                                                     [below](int32_t position) { return position >= below; }));
  const int positions = std::min(kPageRows, selected.row.n - page * kPageRows);
  const double even = takers == 0 ? mean : mean * 0.75, tolerance = 1e-5 * (1e-3 + mean);
  SHADOW_CHECK(std::fabs(page_residual - even) <= tolerance, "%s page %d: residual %g, not %g", name, page,
               page_residual, even);
  for (int i = first; i < k; ++i) {
    const auto at = static_cast<size_t>(i);
    const double got = static_cast<double>(selected.selected_residual[at]);
    const double wanted = selected.positions[at] < below ? 0.0 : mean * 0.25 * positions / takers;
    SHADOW_CHECK(std::fabs(got - wanted) <= positions * tolerance, "%s position %d: residual %g, not %g", name, i, got,
                 wanted);
  }
}

void TestThresholdRow(SelectByThresholdFn kernel, const char* name, int n, float threshold, int always_below,
                      int always_from) {
  const AlignedVector<float> weights = RandomWeights(n);
  SelectedRow selected(weights, n, threshold, always_below, always_from),
      expected(weights, n, threshold, always_below, always_from);
  const int count = kernel(selected.row);
  SelectByThresholdScalar(expected.row);
  int k = 0;
  for (int page = 0; page * kPageRows < n; ++page) {
    double residual = 0;
    const int first = k, end = std::min(n, (page + 1) * kPageRows);
    for (int j = page * kPageRows; j < end; ++j) {
      const float w = weights[static_cast<size_t>(j)];
      if (w < threshold && j >= always_below && j < always_from) {
        residual += static_cast<double>(w);
        continue;
      }
      const auto i = static_cast<size_t>(k);
      SHADOW_CHECK(selected.positions[i] == j && selected.selected_weights[i] == w, "%s n %d: position %d is %d", name,
                   n, k, selected.positions[i]);
      ++k;
    }
    CheckResidual(selected, name, page, first, k, residual / (end - page * kPageRows));
  }
  SHADOW_CHECK(selected.page_residual == expected.page_residual, "%s n %d: other page residuals", name, n);
  SHADOW_CHECK(std::equal(selected.selected_residual.begin(), selected.selected_residual.begin() + k,
                          expected.selected_residual.begin()),
               "%s n %d: residual of selected positions", name, n);
  SHADOW_CHECK(count == k, "%s n %d: %d selected, not %d", name, n, count, k);
  SHADOW_CHECK(selected.positions.back() == -7 && selected.selected_weights.back() == -7.0f &&
                   selected.page_residual.back() == kCallers && selected.selected_residual.back() == -7.0f,
               "%s n %d: wrote past its room", name, n);
}

void TestSelectByThreshold(SelectByThresholdFn kernel, const char* name) {
  for (int n : kSizes) {
    for (float threshold : {0.0f, 0.01f, 0.3f, 2.0f}) {
      TestThresholdRow(kernel, name, n, threshold, 0, n);
      TestThresholdRow(kernel, name, n, threshold, std::min(n, RandomInt(0, 70)), RandomInt(std::max(0, n - 70), n));
      TestThresholdRow(kernel, name, n, threshold, n, 0);
    }
  }
}

void TestAll() {
#define SHADOW_KERNEL(needed, name)                                                     \
  if (testing::HasArch(#name, needed)) {                                                \
    TestSoftmax(SoftmaxInt32##name, SoftmaxInt32Scalar, "SoftmaxInt32" #name);          \
    TestSoftmax(SoftmaxInt8##name, SoftmaxInt8Scalar, "SoftmaxInt8" #name);             \
    TestSoftmaxSome(SoftmaxInt32##name, "SoftmaxInt32" #name);                          \
    TestSoftmaxSome(SoftmaxInt8##name, "SoftmaxInt8" #name);                            \
    TestSelectByThreshold(SelectByThreshold##name, "SelectByThreshold" #name);          \
    SHADOW_CHECK(GetSoftmaxInt32Kernel(needed) == SoftmaxInt32##name, #name);           \
    SHADOW_CHECK(GetSoftmaxInt8Kernel(needed) == SoftmaxInt8##name, #name);             \
    SHADOW_CHECK(GetSelectByThresholdKernel(needed) == SelectByThreshold##name, #name); \
  }
#include "kernels/softmax/kernels.inc"
#undef SHADOW_KERNEL
  std::printf("  worst error of a weight: %.2f of the tolerance\n", worst);
}

}  // namespace
}  // namespace shadow

int main() {
  shadow::testing::Start("softmax");
  shadow::TestAll();
  return shadow::testing::Finish();
}
