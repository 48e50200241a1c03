// Every estimate kernel of this machine against the sum of products, one at a time. Integers: exact.
#include "kernels/estimate/kernels.h"
#include "kernels/testing.h"

namespace shadow {
namespace {

using testing::AlignedVector;
using testing::RandomInt;

constexpr int kDims[] = {1, 4, 5, 8, 32, 40, 64, 80, 96, 100, 128, 160, 192, 256, 512};
constexpr int kRowCounts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 15, 16, 17, 18, 20, 21, 31, 32, 47, 96, 97, 113};

struct Tile {
  int d, rows;
  ptrdiff_t stride;
  std::vector<int8_t> q;  // [rows][d_padded] from q_begin on, a random misalignment
  size_t q_begin;
  std::vector<int32_t> q_sum;
  AlignedVector<uint8_t> k_u8;
};

// extremes: every product is as large as possible, so that 16-bit sums would saturate. lowest: smallest query element.
Tile RandomTile(int d, int rows, bool extremes, int lowest) {
  const int d_padded = PaddedBytes(d);
  Tile t{d, rows, kPageRows * RandomInt(1, 3), {}, static_cast<size_t>(RandomInt(0, 15)), {}, {}};
  t.q.resize(t.q_begin + static_cast<size_t>(rows * d_padded));
  t.q_sum.resize(static_cast<size_t>(rows));
  t.k_u8.resize(static_cast<size_t>(d_padded * kPageRows));
  for (uint8_t& k : t.k_u8) k = static_cast<uint8_t>(extremes ? 1 + 254 * RandomInt(0, 1) : RandomInt(1, 255));
  for (int i = 0; i < rows * d_padded; ++i) {
    if (i % d_padded >= d) continue;
    const int value = extremes ? (RandomInt(0, 1) != 0 ? 127 : lowest) : RandomInt(lowest, 127);
    t.q[t.q_begin + static_cast<size_t>(i)] = static_cast<int8_t>(value);
    t.q_sum[static_cast<size_t>(i / d_padded)] += value;
  }
  return t;
}

int32_t Oracle(const Tile& t, int r, int j) {
  int32_t sum = 0;
  for (int c = 0; c < t.d; ++c) {
    const int q = t.q[t.q_begin + static_cast<size_t>(r * PaddedBytes(t.d) + c)];
    sum += q * (t.k_u8[static_cast<size_t>((c / 4 * kPageRows + j) * 4 + c % 4)] - 128);
  }
  return sum;
}

void TestTile(EstimateFn kernel, const char* name, const Tile& t, const std::vector<int32_t>& at) {
  constexpr int32_t kUntouched = 0x5a5a5a5a;
  const int rows = at.empty() ? t.rows : static_cast<int>(at.size());
  AlignedVector<int32_t> scores(static_cast<size_t>(rows * t.stride), kUntouched);
  const QueryRows query{t.q.data() + t.q_begin, t.q_sum.data(), rows, at.empty() ? nullptr : at.data()};
  kernel(query, t.k_u8.data(), PaddedBytes(t.d), scores.data(), t.stride);
  if (RandomInt(0, 1) != 0) GetEndEstimates(DetectArch())();  // a configuration that stays set must not matter
  for (int r = 0; r < rows; ++r) {
    const int row = at.empty() ? r : at[static_cast<size_t>(r)];
    for (int j = 0; j < t.stride; ++j) {
      const int32_t got = scores[static_cast<size_t>(r * t.stride + j)];
      const int32_t expected = j < kPageRows ? Oracle(t, row, j) : kUntouched;
      SHADOW_CHECK(got == expected, "%s d %d rows %d, row %d key %d: %d, not %d", name, t.d, rows, row, j, got,
                   expected);
    }
  }
}

// Some of the rows in any order; a row may occur twice.
std::vector<int32_t> SomeRows(int rows) {
  std::vector<int32_t> at(static_cast<size_t>(RandomInt(1, rows + 1)));
  for (int32_t& row : at) row = RandomInt(0, rows - 1);
  return at;
}

void Test(EstimateFn kernel, const char* name, int lowest) {
  for (int d : kDims) {
    for (int rows : kRowCounts) {
      TestTile(kernel, name, RandomTile(d, rows, false, lowest), {});
      TestTile(kernel, name, RandomTile(d, rows, true, lowest), {});
      TestTile(kernel, name, RandomTile(d, rows, false, lowest), SomeRows(rows));
    }
  }
}

void TestAll() {
#define SHADOW_KERNEL(needed, name)                                                   \
  if (testing::HasArch(#name, needed)) {                                              \
    Test(Estimate##name, #name, -128);                                                \
    Test(EstimatePositive##name, "Positive" #name, 0);                                \
    SHADOW_CHECK(GetEstimateKernel(needed) == Estimate##name, #name);                 \
    SHADOW_CHECK(GetEstimatePositiveKernel(needed) == EstimatePositive##name, #name); \
  }
#include "kernels/estimate/kernels.inc"
#undef SHADOW_KERNEL
}

}  // namespace
}  // namespace shadow

int main() {
  shadow::testing::Start("estimate");
  shadow::TestAll();
  return shadow::testing::Finish();
}
