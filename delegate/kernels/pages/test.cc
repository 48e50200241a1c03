// Every kernel of block skipping of this machine against the formula written out plainly, and bit by bit against the
// portable kernel.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/pages/kernels.h"
#include "kernels/testing.h"

namespace shadow {
namespace {

using testing::AlignedVector;
using testing::RandomFloat;
using testing::RandomInt;

constexpr int kSizes[] = {1, 15, 16, 17, 31, 33, 63, 64, 65, 128, 129, 500};
constexpr int kLarge = 1 << 24;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Often equal bounds, ordinary ones, and the ends of the range.
int32_t RandomBound() {
  switch (RandomInt(0, 9)) {
    case 0:
      return INT32_MIN;
    case 1:
      return INT32_MAX;
    case 2:
      return RandomInt(-2, 2);
    default:
      return RandomInt(-kLarge, kLarge);
  }
}

void TestLargest(LargestBoundFn kernel, const char* name, int n) {
  // INT32_MAX lies before and after what the kernel may read. Addresses are odd, and each place is the largest once.
  for (int at = 0; at < n; ++at) {
    const int before = RandomInt(1, 16);
    std::vector<int32_t> bounds(static_cast<size_t>(before + n + 16), INT32_MAX);
    for (int i = 0; i < n; ++i) bounds[static_cast<size_t>(before + i)] = RandomInt(-kLarge, -1);
    bounds[static_cast<size_t>(before + at)] = at % 5 == 0 ? INT32_MAX - 1 : 0;
    const int32_t most = kernel(bounds.data() + before, n);
    SHADOW_CHECK(most == bounds[static_cast<size_t>(before + at)], "%s n %d at %d: %d", name, n, at, most);
    SHADOW_CHECK(most == LargestBoundScalar(bounds.data() + before, n), "%s n %d: differs from the portable kernel",
                 name, n);
  }
  const AlignedVector<int32_t> least(static_cast<size_t>(n), INT32_MIN);
  SHADOW_CHECK(kernel(least.data(), n) == INT32_MIN, "%s n %d: nothing but INT32_MIN", name, n);
}

void TestBits(BitsBelowFn kernel, const char* name, int n) {
  const auto words = static_cast<size_t>((n + 63) / 64);
  AlignedVector<int32_t> bounds(words * 64);
  for (int32_t& bound : bounds) bound = RandomBound();
  for (int32_t cut : {INT32_MIN, INT32_MIN + 1, -1, 0, 1, bounds[0], INT32_MAX}) {
    std::vector<uint64_t> bits(words + 1, 77), same = bits;
    kernel(bounds.data(), cut, static_cast<int64_t>(words), bits.data());
    BitsBelowScalar(bounds.data(), cut, static_cast<int64_t>(words), same.data());
    SHADOW_CHECK(bits == same, "%s n %d cut %d: differs from the portable kernel", name, n, cut);
    for (size_t i = 0; i < bounds.size(); ++i) {
      const bool below = (bits[i / 64] >> i % 64 & 1) != 0;
      SHADOW_CHECK(below == (bounds[i] < cut), "%s n %d cut %d: bit %zu of %d", name, n, cut, i, bounds[i]);
    }
    SHADOW_CHECK(bits[words] == 77, "%s n %d: wrote past its room", name, n);
  }
}

// NaN lies in the sums outside [first, last) and in those of other rows.
void TestSum(SumBelowFn kernel, const char* name, int first, int last, int stride) {
  const int pages = last + 3;
  std::vector<int32_t> bounds(static_cast<size_t>(pages), INT32_MIN), cuts(kCuts);
  std::vector<float> sums(static_cast<size_t>(pages * stride), kNan), below(kCuts + 1, -7.0f), same = below;
  for (int32_t& cut : cuts) cut = RandomBound();
  for (int page = first; page < last; ++page) {
    const bool equal = RandomInt(0, 3) == 0;
    bounds[static_cast<size_t>(page)] = equal ? cuts[static_cast<size_t>(page % kCuts)] : RandomBound();
    sums[static_cast<size_t>(page * stride)] = RandomInt(0, 3) == 0 ? 0.0f : std::exp(RandomFloat(-20.0f, 20.0f));
  }
  kernel({bounds.data(), sums.data(), stride, first, last, cuts.data()}, below.data());
  SumBelowScalar({bounds.data(), sums.data(), stride, first, last, cuts.data()}, same.data());
  SHADOW_CHECK(std::memcmp(below.data(), same.data(), below.size() * 4) == 0, "%s: other bits", name);
  for (size_t m = 0; m < kCuts; ++m) {
    float sum = 0;
    for (int page = first; page < last; ++page) {
      const bool is_below = bounds[static_cast<size_t>(page)] < cuts[m];
      sum += is_below ? sums[static_cast<size_t>(page * stride)] : 0.0f;
    }
    SHADOW_CHECK(std::memcmp(&below[m], &sum, sizeof(sum)) == 0, "%s pages %d to %d stride %d cut %zu: %g, not %g",
                 name, first, last, stride, m, static_cast<double>(below[m]), static_cast<double>(sum));
  }
  SHADOW_CHECK(below[kCuts] == -7.0f, "%s: wrote past its room", name);
}

void TestList(ListBitsFn kernel, const char* name, uint64_t set) {
  std::vector<int32_t> places(kListRoom + 1, -7), same = places;
  const int count = kernel(set, places.data());
  SHADOW_CHECK(count == ListBitsScalar(set, same.data()), "%s set %llx: counted %d", name,
               static_cast<unsigned long long>(set), count);
  size_t i = 0;
  for (int bit = 0; bit < 64; ++bit) {
    if ((set >> bit & 1) == 0) continue;
    SHADOW_CHECK(places[i] == bit && same[i] == bit, "%s: place %zu is %d, not %d", name, i, places[i], bit);
    ++i;
  }
  SHADOW_CHECK(static_cast<int>(i) == count, "%s: %d, not %zu", name, count, i);
  SHADOW_CHECK(places[kListRoom] == -7, "%s: wrote past its room", name);
}

void TestLists(ListBitsFn kernel, const char* name) {
  for (uint64_t set : {uint64_t{0}, ~uint64_t{0}, uint64_t{1} << 63, ~uint64_t{0} >> 4}) TestList(kernel, name, set);
  for (int i = 0; i < 64; ++i) TestList(kernel, name, uint64_t{1} << i);
  for (int i = 0; i < 1000; ++i) {
    const uint64_t any = uint64_t{testing::generator()} << 32 | testing::generator();
    TestList(kernel, name, any);
    TestList(kernel, name, any & any >> 7 & any << 9);
  }
}

void TestAll() {
#define SHADOW_KERNEL(needed, name)                                           \
  if (testing::HasArch(#name, needed)) {                                      \
    for (int n : kSizes) TestLargest(LargestBound##name, #name, n);           \
    for (int n : kSizes) TestBits(BitsBelow##name, #name, n);                 \
    for (int n : kSizes) TestSum(SumBelow##name, #name, 0, n, 1);             \
    for (int n : kSizes) TestSum(SumBelow##name, #name, 2, n + 2, 47);        \
    TestSum(SumBelow##name, #name, 7, 7, 3);                                  \
    TestSum(SumBelow##name, #name, 7, 5, 3);                                  \
    TestLists(ListBits##name, #name);                                         \
    SHADOW_CHECK(GetLargestBoundKernel(needed) == LargestBound##name, #name); \
    SHADOW_CHECK(GetBitsBelowKernel(needed) == BitsBelow##name, #name);       \
    SHADOW_CHECK(GetSumBelowKernel(needed) == SumBelow##name, #name);         \
    SHADOW_CHECK(GetListBitsKernel(needed) == ListBits##name, #name);         \
  }
#include "kernels/pages/kernels.inc"
#undef SHADOW_KERNEL
}

}  // namespace
}  // namespace shadow

int main() {
  shadow::testing::Start("pages");
  shadow::TestAll();
  return shadow::testing::Finish();
}
