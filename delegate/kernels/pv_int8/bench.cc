// ns per (row, position) pair of the pv_int8 kernels, and ns per element of packing a page's values.
#include <cmath>

#include "kernels/benching.h"
#include "kernels/pv_int8/kernels.h"
#include "kernels/testing.h"

namespace shadow {
namespace {

using testing::AlignedVector;

struct Kernels {
  QuantizeWeightsFn quantize;
  AddProductsFn add;
  PackValuesFn pack;
};

void Bench(const char* name, const Kernels& kernels, int rows) {
  constexpr int kPages = 32, kDim = 64;
  const auto slots = static_cast<size_t>(kPages * rows);
  AlignedVector<float> weights(kPages * kPageRows), steps(slots), value_steps(kDim, 0.01f), inverse(kDim, 30.0f);
  AlignedVector<float> sums(static_cast<size_t>(rows * kDim));
  AlignedVector<int8_t> out(slots * kPageRows), expected(slots * kPageRows);
  AlignedVector<int32_t> products(static_cast<size_t>(rows * kPackedChannels), 1000);
  AlignedVector<uint16_t> v(kPageRows * kDim, 0x3c00);
  AlignedVector<uint8_t> v_u8(static_cast<size_t>(PackedValueBytes(kDim)));
  for (float& w : weights) w = std::exp(-testing::RandomFloat(0.0f, 10.0f));
  const WeightPages job{weights.data(), kPageRows, kPages, out.data(), steps.data(), rows, 0};
  kernels.quantize(job);
  WeightPages portable = job;
  portable.out = expected.data();
  QuantizeWeightsScalar(portable);
  SHADOW_CHECK(out == expected, "%s", name);
  const double quantize = testing::Nanoseconds([&] { kernels.quantize(job); }) / (kPages * kPageRows);
  const double add = testing::Nanoseconds([&] {
                       kernels.add({products.data(), rows, kDim, steps.data(), value_steps.data(), sums.data(), kDim});
                     }) /
                     (rows * kPageRows);
  const double pack =
      testing::Nanoseconds([&] { kernels.pack(v.data(), kDim, inverse.data(), v_u8.data()); }) / (kPageRows * kDim);
  std::printf("pv_int8 %-8s d %d rows %2d: quantise %.3f, add %.3f ns/pair, pack %.3f ns/element\n", name, kDim, rows,
              quantize, add, pack);
}

void BenchAll() {
#define SHADOW_KERNEL(needed, name)                                                                               \
  if (testing::HasArch(#name, needed)) {                                                                          \
    for (int rows : {3, 48}) Bench(#name, {QuantizeWeights##name, AddProducts##name, PackValuesF16##name}, rows); \
  }
#include "kernels/pv_int8/kernels.inc"
#undef SHADOW_KERNEL
}

}  // namespace
}  // namespace shadow

int main() {
  shadow::testing::Start("pv_int8 bench");
  shadow::BenchAll();
  return shadow::testing::Finish();
}
