// ns per page of the kernels of block skipping, and ns per listed bit.
#include "kernels/benching.h"
#include "kernels/pages/kernels.h"
#include "kernels/testing.h"

namespace shadow {
namespace {

using testing::AlignedVector;

struct Kernels {
  LargestBoundFn largest_bound;
  BitsBelowFn bits_below;
  SumBelowFn sum_below;
  ListBitsFn list_bits;
};

constexpr int kSets = 64, kLarge = 1 << 20;

// About `listed` of the 64 bits of a set are 1.
void Bench(const char* name, const Kernels& kernels, int pages, int listed) {
  constexpr int64_t kStride = 48;
  const auto size = static_cast<size_t>(pages);
  AlignedVector<int32_t> bounds(size), places(kListRoom);
  AlignedVector<float> sums(size * kStride, 1.0f);
  AlignedVector<uint64_t> bits(size / 64), sets(kSets);
  int32_t cuts[kCuts], most = 0;
  float below[kCuts];
  int bits_listed = 0;
  for (int32_t& bound : bounds) bound = testing::RandomInt(-kLarge, kLarge);
  for (int m = 0; m < kCuts; ++m) cuts[m] = testing::RandomInt(-kLarge, kLarge);
  for (uint64_t& set : sets) {
    for (int i = 0; i < 64; ++i) set |= uint64_t{testing::RandomInt(0, 63) < listed} << i;
    bits_listed += __builtin_popcountll(set);
  }
  const double largest = testing::Nanoseconds([&] { most ^= kernels.largest_bound(bounds.data(), pages); });
  const double bit = testing::Nanoseconds([&] { kernels.bits_below(bounds.data(), 0, pages / 64, bits.data()); });
  const BelowCuts job{bounds.data(), sums.data(), kStride, 0, pages, cuts};
  const double sum = testing::Nanoseconds([&] { kernels.sum_below(job, below); });
  const double list = testing::Nanoseconds([&] {
    for (uint64_t set : sets) most += kernels.list_bits(set, places.data());
  });
  std::printf("pages %-11s pages %4d: largest %.3f, bits %.3f, sums %.3f ns/page; %2d of 64 bits: list %.2f ns/bit%s\n",
              name, pages, largest / pages, bit / pages, sum / pages, listed, list / bits_listed, most == 1 ? "." : "");
}

void BenchAll() {
#define SHADOW_KERNEL(needed, name)                                                               \
  if (testing::HasArch(#name, needed)) {                                                          \
    Bench(#name, {LargestBound##name, BitsBelow##name, SumBelow##name, ListBits##name}, 128, 4);  \
    Bench(#name, {LargestBound##name, BitsBelow##name, SumBelow##name, ListBits##name}, 512, 32); \
  }
#include "kernels/pages/kernels.inc"
#undef SHADOW_KERNEL
}

}  // namespace
}  // namespace shadow

int main() {
  shadow::testing::Start("pages bench");
  shadow::BenchAll();
  return shadow::testing::Finish();
}
