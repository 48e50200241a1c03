#include "attention/page_skipping.h"

#include <algorithm>

#include "cache/key_bounds.h"

namespace shadow {
namespace {

constexpr int64_t kFewestPages = 16;  // full ones, below which there is too little to gain
constexpr float kWidest = 1073741824.0f;
static_assert(kCuts == kNumSkipMargins, "the kernel sums below one cut for each margin");
static_assert(kMaxTileRows <= 64, "the set of rows that score a page is one word");

int64_t WholePages(int64_t n) { return (n + kPageRows - 1) / kPageRows; }

// Queries as rows of twice the channels: their positive elements meet the largest keys, the negative ones the smallest.
const int8_t* SplitSigns(const int8_t* q_i8, int64_t rows, int d_padded, Scratch* scratch) {
  int8_t* split = scratch->q_split.Reserve(rows * 2 * d_padded);
  for (int64_t r = 0; r < rows; ++r) {
    const int8_t* q = q_i8 + r * d_padded;
    int8_t* positive = split + r * 2 * d_padded;
    int8_t* negative = positive + d_padded;
    for (int c = 0; c < d_padded; ++c) positive[c] = q[c] > 0 ? q[c] : int8_t{0};
    for (int c = 0; c < d_padded; ++c) negative[c] = q[c] < 0 ? q[c] : int8_t{0};
  }
  return split;
}

// The bits of positions [begin, end) in a word whose bit 0 is position `first`.
uint64_t Range(int64_t begin, int64_t end, int64_t first) {
  const auto low = [&](int64_t bit) {
    return bit - first >= 64 ? ~uint64_t{0} : (uint64_t{1} << std::max<int64_t>(0, bit - first)) - 1;
  };
  return low(end) & ~low(begin);
}

// Pages [first, last) that a row may skip: without its sinks and its latest positions.
struct PageRange {
  int64_t first;
  int64_t last;
};
PageRange Skippable(const CacheSettings& settings, int64_t n) {
  return {WholePages(std::max(settings.sinks, 1)),
          std::max<int64_t>(0, n - std::max<int64_t>(settings.latest, kPageRows)) / kPageRows};
}

// A margin in units of the bounds.
int32_t Below(float margin, float step) { return int32_t(std::min(margin / step, kWidest)); }

// The pages of n visible positions, without those whose bound is more than `below` units under the best one.
void SetBits(const AttentionJob& job, const int32_t* bounds, int64_t n, int32_t below, int64_t words, uint64_t* bits) {
  const int64_t pages = WholePages(n), full = n / kPageRows;
  for (int64_t word = 0; word < words; ++word) bits[word] = Range(0, pages, word * 64);
  if (full < kFewestPages || below == int32_t(kWidest)) return;
  const int32_t cut = job.kernels.largest_bound(bounds, full) - below;
  const PageRange free = Skippable(job.settings, n);
  const int64_t some = (free.last + 63) / 64;
  job.kernels.bits_below(bounds, cut, some, bits);
  for (int64_t word = 0; word < some; ++word) {
    bits[word] = Range(0, pages, word * 64) & ~(bits[word] & Range(free.first, free.last, word * 64));
  }
}

}  // namespace

bool SkipsPages(const AttentionJob& job) {
  if (!job.mode.by_threshold || !(job.settings.max_skipped_mass > 0) || job.part.scores.values != nullptr) return false;
  return job.observer == nullptr || !job.observer->wants_weights();  // these are told of all positions
}

bool MaySkipPages(const TileRows& rows, int64_t end) {
  return rows.job().skip_margins != nullptr && rows.Causal(end - 1) / kPageRows >= kFewestPages;
}

ScoredPages SelectPages(const TileRows& rows, int64_t begin, int64_t end, Scratch* scratch) {
  const AttentionJob& job = rows.job();
  const int64_t count = end - begin, longest = rows.Causal(end - 1), full = longest / kPageRows;
  const int d_padded = PaddedBytes(job.op().head_dim);
  const int64_t blocks = (full + kBoundPages - 1) / kBoundPages, stride = blocks * kBoundPages;
  const int8_t* q = SplitSigns(scratch->q_i8.data(), count, d_padded, scratch);
  int32_t* bounds = scratch->bounds.Reserve(count * stride);
  const KvView view = rows.view();
  for (int64_t block = 0; block < blocks; ++block) {
    job.kernels.estimate({q, scratch->q_sum.data(), int(count)}, view.bounds[block], 2 * d_padded,
                         bounds + block * kBoundPages, stride);
  }
  ScoredPages scored;
  scored.words = (WholePages(longest) + 63) / 64;
  scored.bits = scratch->scored.Reserve(count * scored.words);
  scored.bounds = bounds;
  scored.stride = stride;
  for (int64_t r = 0; r < count; ++r) {
    const int64_t n = rows.Causal(begin + r);
    const bool all = SkipMargins::IsSampled(n - 1);
    const int32_t below =
        all ? int32_t(kWidest) : Below(job.skip_margins[rows.Head(begin + r)], scratch->step.data()[begin + r]);
    SetBits(job, bounds + r * stride, n, below, scored.words, scored.bits + r * scored.words);
  }
  return scored;
}

void SampleSkipLoss(const TileRows& rows, const ScoredPages& scored, const ScoredRow& row) {
  const int64_t n = rows.Causal(row.r), full = n / kPageRows;
  if (!SkipMargins::IsSampled(n - 1) || full < kFewestPages || !(row.mass > 0)) return;
  const int32_t* bounds = scored.bounds + row.i * scored.stride;
  const KernelTable& kernels = rows.job().kernels;
  const int32_t best = kernels.largest_bound(bounds, full);
  const PageRange free = Skippable(rows.job().settings, n);
  int32_t cuts[kNumSkipMargins];
  float sum[kNumSkipMargins];
  for (int m = 0; m < kNumSkipMargins; ++m) cuts[m] = best - Below(kSkipMargins[m], row.step);
  kernels.sum_below({bounds, row.sums, row.stride, free.first, free.last, cuts}, sum);
  uint16_t lost[kNumSkipMargins];
  for (int m = 0; m < kNumSkipMargins; ++m) lost[m] = uint16_t(std::min(sum[m] / row.mass, 1.0f) * 65534.0f);
  rows.job().pages.skip_margins().AddSample(rows.job().chunk().layer, rows.Head(row.r), n - 1, lost);
}

// Hacker's Delight, 7-3: swaps the blocks off the diagonal, from 32 x 32 down to single bits.
void TransposeBits(uint64_t matrix[64]) {
  uint64_t mask = 0x00000000FFFFFFFF;
  for (int width = 32; width > 0; width /= 2, mask ^= mask << width) {
    for (int i = 0; i < 64; i = (i + width + 1) & ~width) {
      const uint64_t swapped = ((matrix[i] >> width) ^ matrix[i + width]) & mask;
      matrix[i] ^= swapped << width;
      matrix[i + width] ^= swapped;
    }
  }
}

}  // namespace shadow
