// Every pv_int8 kernel of this machine against the formula written out plainly, and bit by bit against the portable
// kernel.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/fp16.h"
#include "kernels/pv_int8/kernels.h"
#include "kernels/testing.h"

namespace shadow {
namespace {

using testing::AlignedVector;
using testing::RandomFloat;
using testing::RandomInt;
using testing::RandomNormal;

constexpr int kDims[] = {1, 5, 15, 16, 17, 40, 63, 64, 65, 80, 96, 128, 130, 512};
constexpr float kGuard = -7.0f;

float AsFloat(float x) { return x; }
float AsFloat(uint16_t x) { return FloatFromFp16(x); }
void Set(float value, float* x) { *x = value; }
void Set(float value, uint16_t* x) { *x = Fp16FromFloat(value); }

// Rows of a page; a channel may be all zeros, or hold one huge value.
template <class T>
AlignedVector<T> RandomPage(int d) {
  const int padded = PaddedFloats(d);
  AlignedVector<T> v(static_cast<size_t>(kPageRows * padded));
  for (int c = 0; c < d; ++c) {
    const float size = RandomInt(0, 5) == 0 ? 0.0f : std::exp(RandomFloat(-8.0f, 8.0f));
    for (int i = 0; i < kPageRows; ++i) Set(size * RandomNormal(), &v[static_cast<size_t>(i * padded + c)]);
    if (RandomInt(0, 5) == 0) Set(6e4f, &v[static_cast<size_t>(RandomInt(0, kPageRows - 1) * padded + c)]);
  }
  return v;
}

template <class T>
void TestValues(LargestValuesFn largest_values, PackValuesFn pack_values, const char* name, int d) {
  const auto padded = static_cast<size_t>(PaddedFloats(d)), bytes = static_cast<size_t>(PackedValueBytes(d));
  const AlignedVector<T> v = RandomPage<T>(d);
  AlignedVector<float> largest(padded + 1, kGuard), inverse(padded);
  largest_values(v.data(), d, largest.data());
  for (size_t c = 0; c < padded; ++c) {
    float most = 0;
    for (size_t i = 0; i < kPageRows; ++i) most = std::max(most, std::fabs(AsFloat(v[i * padded + c])));
    SHADOW_CHECK(largest[c] == most, "%s d %d channel %zu", name, d, c);
    // Sometimes the range is too small, so that values saturate.
    inverse[c] = most > 0 ? 127.0f / most * (RandomInt(0, 3) == 0 ? 3.0f : 1.0f) : 0.0f;
  }
  SHADOW_CHECK(largest[padded] == kGuard, "%s d %d: wrote past its room", name, d);
  AlignedVector<uint8_t> v_u8(bytes + 1, 77);
  pack_values(v.data(), d, inverse.data(), v_u8.data());
  for (size_t c = 0; c < static_cast<size_t>(PackedValueBlocks(d) * kPackedChannels); ++c) {
    for (size_t i = 0; i < kPageRows; ++i) {
      const float scaled = c < padded ? AsFloat(v[i * padded + c]) * inverse[c] : 0.0f;
      const float expected = std::clamp(std::nearbyint(scaled), -127.0f, 127.0f) + 128;
      const size_t at = c / 64 * 4096 + i / 4 * 256 + c % 64 * 4 + i % 4;
      SHADOW_CHECK(static_cast<float>(v_u8[at]) == expected, "%s d %d channel %zu position %zu: %d, not %g", name, d, c,
                   i, v_u8[at], static_cast<double>(expected));
    }
  }
  SHADOW_CHECK(v_u8[bytes] == 77, "%s d %d: wrote past its room", name, d);
}

// A page of weights as a softmax makes them; kinds 1 and 2 are zeros and weights near the smallest float.
void FillWeights(int kind, float* weights) {
  for (int j = 0; j < kPageRows; ++j) {
    weights[j] = std::exp(-RandomFloat(0.0f, 20.0f));
    if (kind == 1) weights[j] = 0;
    if (kind == 2) weights[j] *= 1e-37f;
    if (kind == 3) weights[j] = 1;
  }
}

void TestWeights(QuantizeWeightsFn kernel, const char* name) {
  constexpr int64_t kRows = 3, kRow = 1;
  for (int pages : {0, 1, 2, 7, 40}) {
    const auto slots = static_cast<size_t>(pages * kRows);
    AlignedVector<float> weights(static_cast<size_t>(pages * kPageRows) + 1), steps(slots + 1, kGuard), same = steps;
    std::vector<int8_t> out(slots * kPageRows + 1, 77), portable = out;
    for (int page = 0; page < pages; ++page) FillWeights(RandomInt(0, 5), weights.data() + page * kPageRows);
    // Every other time the pages lie from the last to the first.
    const bool back = RandomInt(0, 1) == 1 && pages > 0;
    const float* first = weights.data() + (back ? (pages - 1) * kPageRows : 0);
    const int64_t page_stride = back ? -kPageRows : kPageRows;
    kernel({first, page_stride, pages, out.data(), steps.data(), kRows, kRow});
    QuantizeWeightsScalar({first, page_stride, pages, portable.data(), same.data(), kRows, kRow});
    SHADOW_CHECK(out == portable && steps == same, "%s pages %d: other bits", name, pages);
    for (size_t page = 0; page < static_cast<size_t>(pages); ++page) {
      const float* w = first + static_cast<int64_t>(page) * page_stride;
      const size_t slot = page * kRows + kRow;
      const float most = *std::max_element(w, w + kPageRows), inverse = 127.0f / most;
      const bool none = !std::isfinite(inverse);
      for (size_t j = 0; j < kPageRows; ++j) {
        const float expected = none ? 0.0f : std::nearbyint(w[j] * inverse);
        const int got = out[slot * kPageRows + j];
        SHADOW_CHECK(static_cast<float>(got) == expected, "%s page %zu weight %zu: %d", name, page, j, got);
      }
      SHADOW_CHECK(steps[slot] == (none ? 0.0f : most / 127.0f), "%s page %zu: step", name, page);
      SHADOW_CHECK(steps[slot - kRow] == kGuard && out[(slot - kRow) * kPageRows] == 77, "%s: wrote other rows", name);
    }
  }
}

void TestProducts(AddProductsFn kernel, const char* name) {
  for (int channels : {16, 32, 48, 64}) {
    for (int rows : {1, 2, 7, 96}) {
      const int64_t stride = 64 + 16 * RandomInt(0, 2);
      AlignedVector<int32_t> products(static_cast<size_t>(rows * kPackedChannels));
      AlignedVector<float> weight_steps(static_cast<size_t>(rows)), value_steps(64);
      AlignedVector<float> sums(static_cast<size_t>(rows * stride));
      for (int32_t& p : products) p = RandomInt(-64 * 127 * 127, 64 * 127 * 127);
      for (float& s : weight_steps) s = RandomFloat(0.0f, 0.01f);
      for (float& s : value_steps) s = RandomFloat(0.0f, 0.01f);
      for (float& s : sums) s = RandomNormal();
      AlignedVector<float> expected = sums;
      for (int r = 0; r < rows; ++r) {
        for (int c = 0; c < channels; ++c) {
          const float scale = weight_steps[static_cast<size_t>(r)] * value_steps[static_cast<size_t>(c)];
          const float more = static_cast<float>(products[static_cast<size_t>(r * kPackedChannels + c)]) * scale;
          expected[static_cast<size_t>(r * stride + c)] += more;
        }
      }
      kernel({products.data(), rows, channels, weight_steps.data(), value_steps.data(), sums.data(), stride});
      SHADOW_CHECK(std::memcmp(sums.data(), expected.data(), sums.size() * sizeof(float)) == 0,
                   "%s channels %d rows %d: other bits", name, channels, rows);
    }
  }
}

void TestAll() {
#define SHADOW_KERNEL(needed, name)                                                                              \
  if (testing::HasArch(#name, needed)) {                                                                         \
    for (int d : kDims) TestValues<float>(LargestValuesF32##name, PackValuesF32##name, "ValuesF32" #name, d);    \
    for (int d : kDims) TestValues<uint16_t>(LargestValuesF16##name, PackValuesF16##name, "ValuesF16" #name, d); \
    TestWeights(QuantizeWeights##name, "QuantizeWeights" #name);                                                 \
    TestProducts(AddProducts##name, "AddProducts" #name);                                                        \
    SHADOW_CHECK(GetLargestValuesKernel(needed, CacheType::kFloat32) == LargestValuesF32##name, #name);          \
    SHADOW_CHECK(GetLargestValuesKernel(needed, CacheType::kFloat16) == LargestValuesF16##name, #name);          \
    SHADOW_CHECK(GetPackValuesKernel(needed, CacheType::kFloat32) == PackValuesF32##name, #name);                \
    SHADOW_CHECK(GetPackValuesKernel(needed, CacheType::kFloat16) == PackValuesF16##name, #name);                \
    SHADOW_CHECK(GetQuantizeWeightsKernel(needed) == QuantizeWeights##name, #name);                              \
    SHADOW_CHECK(GetAddProductsKernel(needed) == AddProducts##name, #name);                                      \
  }
#include "kernels/pv_int8/kernels.inc"
#undef SHADOW_KERNEL
}

}  // namespace
}  // namespace shadow

int main() {
  shadow::testing::Start("pv_int8");
  shadow::TestAll();
  return shadow::testing::Finish();
}
