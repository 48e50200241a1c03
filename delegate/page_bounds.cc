#include "page_bounds.h"

#include <algorithm>
#include <cstring>

#include "magnitude.h"

namespace shadow {
namespace {

constexpr int64_t kFewestPages = 16;  // full ones, below which there is too little to gain
constexpr float kWidest = 1073741824.0f;

int64_t WholePages(int64_t n) { return (n + kPageRows - 1) / kPageRows; }

// Queries as rows of twice the channels: what is positive meets the largest keys, what is negative the smallest.
const int8_t* SplitSigns(const int8_t* q_i8, int64_t rows, int d_padded, Scratch* scratch) {
  int8_t* split = scratch->q_split.Reserve(rows * 2 * d_padded);
  for (int64_t r = 0; r < rows; ++r) {
    const int8_t* q = q_i8 + r * d_padded;
    int8_t* positive = split + r * 2 * d_padded;
    for (int c = 0; c < d_padded; ++c) {
      positive[c] = std::max<int8_t>(q[c], 0);
      positive[d_padded + c] = std::min<int8_t>(q[c], 0);
    }
  }
  return split;
}

// Bits [begin, end) of those below 64, of a word that begins at bit `first`.
uint64_t Range(int64_t begin, int64_t end, int64_t first) {
  const auto low = [&](int64_t bit) {
    return bit - first >= 64 ? ~uint64_t{0} : (uint64_t{1} << std::max<int64_t>(0, bit - first)) - 1;
  };
  return low(end) & ~low(begin);
}

// The pages of a row that sees n positions, without those of [first, last) whose bound lies below the cut.
void SetBits(const int32_t* bounds, const CacheSettings& settings, int64_t n, float step, int64_t words,
             uint64_t* bits) {
  const int64_t pages = WholePages(n), full = n / kPageRows;
  for (int64_t word = 0; word < words; ++word) bits[word] = Range(0, pages, word * 64);
  if (full < kFewestPages) return;
  const auto below = int32_t(std::min(float(settings.margin) / step, kWidest));
  const int32_t cut = Largest(bounds, full) - below;
  const int64_t first = WholePages(std::max(settings.sinks, 1));
  const int64_t last = std::max<int64_t>(0, n - std::max<int64_t>(settings.latest, kPageRows)) / kPageRows;
  for (int64_t word = 0; word * 64 < last; ++word) {
    uint64_t low = 0;
    const int32_t* of_word = bounds + word * 64;
    for (int i = 0; i < 64; ++i) low |= uint64_t{of_word[i] < cut} << i;
    bits[word] &= ~(low & Range(first, last, word * 64));
  }
}

}  // namespace

void WriteBounds(const uint8_t* k_u8, int head_dim, int column, uint8_t* block) {
  const int d_padded = PaddedBytes(head_dim);
  for (int c = 0; c < d_padded; c += 4) {
    uint8_t most[64], least[64];  // four rows of 16 keys at a time: vector instructions take them whole
    const uint8_t* keys = k_u8 + c * kPageRows;
    std::memcpy(most, keys, sizeof(most));
    std::memcpy(least, keys, sizeof(least));
    for (int i = 64; i < 4 * kPageRows; i += 64) {
      for (int j = 0; j < 64; ++j) {
        most[j] = std::max(most[j], keys[i + j]);
        least[j] = std::min(least[j], keys[i + j]);
      }
    }
    for (int j = 4; j < 64; ++j) {
      most[j % 4] = std::max(most[j % 4], most[j]);
      least[j % 4] = std::min(least[j % 4], least[j]);
    }
    std::memcpy(block + (c * kBoundPages + column * 4), most, 4);
    std::memcpy(block + ((d_padded + c) * kBoundPages + column * 4), least, 4);
  }
}

bool MayLeaveOut(const TileRows& rows, int64_t end) {
  const AttentionJob& job = rows.job();
  if (job.settings.mode != Mode::kShadow || !(job.settings.margin > 0) || job.scores.values != nullptr) return false;
  if (rows.Causal(end - 1) / kPageRows < kFewestPages) return false;
  // These are told of all positions.
  return job.observer == nullptr || !(job.observer->wants(kObserveHistogram) || job.observer->wants(kObserveErrors));
}

ScoredPages ChoosePages(const TileRows& rows, int64_t begin, int64_t end, Scratch* scratch) {
  const AttentionJob& job = rows.job();
  const int64_t count = end - begin, longest = rows.Causal(end - 1), full = longest / kPageRows;
  const int d_padded = PaddedBytes(job.op.head_dim);
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
  for (int64_t r = 0; r < count; ++r) {
    SetBits(bounds + r * stride, job.settings, rows.Causal(begin + r), scratch->step.data()[begin + r], scored.words,
            scored.bits + r * scored.words);
  }
  return scored;
}

// Hacker's Delight, 7-3: blocks off the diagonal trade places, from 32 x 32 down to single bits.
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
