// Every quantise kernel of this machine against the formula of docs/algorithm.md, one element at a time.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>

#include "kernels/quantize/kernels.h"
#include "kernels/testing.h"

namespace shadow {
namespace {

using testing::RandomFloat;
using testing::RandomInt;
using testing::RandomNormal;

constexpr int kSizes[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 40, 63, 64, 65, 80, 96, 100, 128, 256, 511, 512};
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// The integer nearest to x, of two the even one. Written out, because the kernels use the FPU's rounding.
int RoundHalfEven(double x) {
  const double low = std::floor(x), fraction = x - low;
  const bool up = fraction > 0.5 || (fraction == 0.5 && std::fmod(low, 2.0) != 0.0);
  return static_cast<int>(up ? low + 1 : low);
}

struct Row {
  std::vector<int8_t> values;
  int result = 0;
};

Row OracleKey(const float* x, const float* centre, float inv_scale, int d) {
  Row row{std::vector<int8_t>(static_cast<size_t>(d)), 0};
  for (int i = 0; i < d; ++i) {
    const float difference = x[i] - centre[i];
    const float scaled = difference * inv_scale;
    const bool large = std::fabs(scaled) > 1000;
    int rounded = large ? (scaled > 0 ? 1000 : -1000) : RoundHalfEven(static_cast<double>(scaled));
    if (rounded > 127 || rounded < -127) {
      ++row.result;
      rounded = rounded > 0 ? 127 : -127;
    }
    row.values[static_cast<size_t>(i)] = static_cast<int8_t>(rounded);
  }
  return row;
}

Row OracleQuery(const float* x, int d) {
  Row row{std::vector<int8_t>(static_cast<size_t>(d)), 0};
  float largest = 0;
  for (int i = 0; i < d; ++i) largest = std::fmax(largest, std::fabs(x[i]));
  const float multiplier = 127.0f / largest;
  for (int i = 0; i < d && multiplier <= FLT_MAX; ++i) {
    const float scaled = x[i] * multiplier;
    row.values[static_cast<size_t>(i)] = static_cast<int8_t>(RoundHalfEven(static_cast<double>(scaled)));
    row.result += row.values[static_cast<size_t>(i)];
  }
  return row;
}

// A buffer with a guard value after the row; it starts at a random misalignment.
struct Output {
  explicit Output(int d)
      : bytes(static_cast<size_t>(d) + 80, int8_t{99}), begin(static_cast<size_t>(RandomInt(0, 15))) {}
  int8_t* data() { return bytes.data() + begin; }
  bool Equals(const Row& row) {
    const size_t d = row.values.size();
    return std::equal(row.values.begin(), row.values.end(), data()) && data()[d] == 99;
  }
  std::vector<int8_t> bytes;
  size_t begin;
};

std::vector<float> RandomRow(int d, int kind) {
  std::vector<float> x(static_cast<size_t>(d));
  for (float& v : x) {
    v = RandomNormal();
    if (kind == 1) v = static_cast<float>(RandomInt(-300, 300)) * 0.5f;  // multiples of 0.5: exact ties of rounding
    if (kind == 2) v *= 1e30f;
    if (kind == 3) v = 0;
    if (kind == 4) v *= 1e-39f;
  }
  return x;
}

void TestKey(QuantizeKeyFn kernel, const char* name) {
  for (int d : kSizes) {
    for (int kind = 0; kind < 5; ++kind) {
      std::vector<float> x = RandomRow(d, kind);
      std::vector<float> centre = RandomRow(d, kind == 1 ? 3 : 0);
      const float inv_scale = kind == 1 ? 1.0f : RandomFloat(20, 80);
      Output out(d);
      const int result = kernel(x.data(), centre.data(), inv_scale, d, out.data());
      const Row expected = OracleKey(x.data(), centre.data(), inv_scale, d);
      SHADOW_CHECK(result == expected.result, "%s d %d kind %d: %d, not %d", name, d, kind, result, expected.result);
      SHADOW_CHECK(out.Equals(expected), "%s d %d kind %d", name, d, kind);
      const float bad[] = {kInfinity, -kInfinity, kNan};
      x[static_cast<size_t>(RandomInt(0, d - 1))] = bad[RandomInt(0, 2)];
      SHADOW_CHECK(kernel(x.data(), centre.data(), inv_scale, d, out.data()) == -1, "%s d %d", name, d);
    }
  }
}

void TestQuery(QuantizeQueryFn kernel, const char* name) {
  for (int d : kSizes) {
    for (int kind = 0; kind < 5; ++kind) {
      std::vector<float> x = RandomRow(d, kind);
      if (kind == 1) x[0] = 127.0f * (RandomInt(0, 1) != 0 ? 1.0f : 2.0f);
      Output out(d);
      float largest = -7;
      const int result = kernel(x.data(), d, out.data(), &largest);
      const Row expected = OracleQuery(x.data(), d);
      float wanted = 0;
      for (float value : x) wanted = std::max(wanted, std::fabs(value));
      SHADOW_CHECK(largest == wanted, "%s d %d kind %d: largest %g, not %g", name, d, kind,
                   static_cast<double>(largest), static_cast<double>(wanted));
      SHADOW_CHECK(result == expected.result, "%s d %d kind %d: %d, not %d", name, d, kind, result, expected.result);
      SHADOW_CHECK(out.Equals(expected), "%s d %d kind %d", name, d, kind);
      const float bad[] = {kInfinity, -kInfinity, kNan};
      x[static_cast<size_t>(RandomInt(0, d - 1))] = bad[RandomInt(0, 2)];
      SHADOW_CHECK(kernel(x.data(), d, out.data(), &largest) == INT32_MIN, "%s d %d", name, d);
    }
  }
}

void TestCoarse() {
  for (int d : kSizes) {
    const std::vector<float> x = RandomRow(d, 0);
    std::vector<float> variance(static_cast<size_t>(d));
    for (float& v : variance) v = RandomFloat(0, 900);
    const float multiplier = RandomFloat(1e-4f, 1e-2f);
    Output out(d);
    SHADOW_CHECK(QuantizeQueryCoarse(x.data(), variance.data(), multiplier, d, out.data()), "d %d", d);
    double sum = 0, largest = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      sum += static_cast<double>(x[i]) * static_cast<double>(x[i]) * static_cast<double>(variance[i]);
      largest = std::fmax(largest, std::fabs(static_cast<double>(x[i])));
    }
    const double s = std::fmin(24 / (static_cast<double>(multiplier) * std::sqrt(sum)), 127 / largest);
    Row expected{{}, 0};
    for (float v : x) {
      const float scaled = v * static_cast<float>(s);
      expected.values.push_back(static_cast<int8_t>(RoundHalfEven(static_cast<double>(scaled))));
    }
    SHADOW_CHECK(out.Equals(expected), "coarse d %d", d);
  }
  const float row[] = {0, 0, 0}, bad[] = {0, kNan, 0}, variance[] = {1, 1, 1};
  int8_t out[3] = {9, 9, 9};
  SHADOW_CHECK(QuantizeQueryCoarse(row, variance, 0.01f, 3, out) && out[0] == 0 && out[2] == 0, "zero row");
  SHADOW_CHECK(!QuantizeQueryCoarse(bad, variance, 0.01f, 3, out), "NaN");
}

void TestPackKey() {
  for (int d : kSizes) {
    std::vector<uint8_t> page(static_cast<size_t>(PaddedBytes(d)) * kPageRows, uint8_t{7});
    std::vector<int8_t> key(static_cast<size_t>(d));
    for (int8_t& k : key) k = static_cast<int8_t>(RandomInt(-127, 127));
    const int row = RandomInt(0, kPageRows - 1);
    PackKey(key.data(), d, row, page.data());
    for (int c = 0; c < PaddedBytes(d); ++c) {
      for (int j = 0; j < kPageRows; ++j) {
        const int wanted = j != row ? 7 : c < d ? key[static_cast<size_t>(c)] + 128 : 128;
        SHADOW_CHECK(page[static_cast<size_t>((c / 4 * kPageRows + j) * 4 + c % 4)] == wanted, "d %d c %d row %d", d, c,
                     j);
      }
    }
  }
}

void TestAll() {
#define SHADOW_KERNEL(needed, name)                                             \
  if (testing::HasArch(#name, needed)) {                                        \
    TestKey(QuantizeKey##name, #name);                                          \
    TestQuery(QuantizeQuery##name, #name);                                      \
    SHADOW_CHECK(GetQuantizeKeyKernel(needed) == QuantizeKey##name, #name);     \
    SHADOW_CHECK(GetQuantizeQueryKernel(needed) == QuantizeQuery##name, #name); \
  }
#include "kernels/quantize/kernels.inc"
#undef SHADOW_KERNEL
  TestCoarse();
  TestPackKey();
}

}  // namespace
}  // namespace shadow

int main() {
  shadow::testing::Start("quantize");
  shadow::TestAll();
  return shadow::testing::Finish();
}
