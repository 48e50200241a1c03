// Every select kernel of this machine against a sort of all scores. The answer is unique, so all comparisons are exact.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/select/kernels.h"
#include "kernels/testing.h"

namespace shadow {
namespace {

using testing::RandomInt;
using testing::RandomNormal;

constexpr int kSizes[] = {1,  2,  3,   4,   7,   8,   9,   15,  16,  17,  31,   32,   33,   48,   63,   64,
                          65, 66, 127, 128, 129, 191, 500, 511, 512, 513, 1023, 1024, 1025, 2047, 4096, 4097};

enum Kind {
  kNormal,
  kFewLevels,
  kAllEqual,
  kTwoValues,
  kOneHighOutlier,
  kOneLowOutlier,
  kAscending,
  kDescending,
  kExtremes,
  kMisleadingSample,
  kPlateau,
  kExponential,
  kKinds,
};

// The limits make every kind a legal int8 too.
int Score(Kind kind, int i, int n, int low, int high) {
  const double spread = (static_cast<double>(high) - low) / 2, normal = static_cast<double>(RandomNormal());
  switch (kind) {
    case kFewLevels:
      return RandomInt(-3, 3);
    case kAllEqual:
      return 5;
    case kTwoValues:
      return RandomInt(0, 1);
    case kOneHighOutlier:
      return i == n / 3 ? high : RandomInt(-20, 20);
    case kOneLowOutlier:
      return i == n / 3 ? low : RandomInt(-20, 20);
    case kAscending:
      return static_cast<int>(low + static_cast<int64_t>(i) * 2 * static_cast<int64_t>(spread) / n);
    case kDescending:
      return static_cast<int>(high - static_cast<int64_t>(i) * 2 * static_cast<int64_t>(spread) / n);
    case kExtremes:
      return RandomInt(0, 2) == 0 ? low : RandomInt(0, 1) == 0 ? high : RandomInt(low, high);
    case kMisleadingSample: {  // a strided sample of 64 or 32 scores is unlike the others
      const int stride = std::max(1, n / 64);
      return i % stride == stride / 2 ? RandomInt(100, 120) : RandomInt(-100, 0);
    }
    case kPlateau:
      return RandomInt(0, 9) != 0 ? 7 : RandomInt(-50, 50);
    case kExponential:
      return static_cast<int>(std::min(std::exp(std::abs(normal) * 5.0), static_cast<double>(high)));
    default:
      return static_cast<int>(std::clamp(normal * spread / 6, static_cast<double>(low), static_cast<double>(high)));
  }
}

template <class T>
std::vector<int32_t> Oracle(const T* scores, int n, int k, int32_t offset) {
  std::vector<int32_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int a, int b) { return scores[a] != scores[b] ? scores[a] > scores[b] : a > b; });
  order.resize(static_cast<size_t>(k));
  std::sort(order.begin(), order.end());
  for (int32_t& i : order) i += offset;
  return order;
}

template <class T, class Function>
void TestRow(Function kernel, const char* name, const T* scores, int n, int k, int kind) {
  const int32_t offset = RandomInt(0, 1) != 0 ? 0 : RandomInt(1, 40000);
  std::vector<int32_t> scratch(static_cast<size_t>(n) + 64), out(static_cast<size_t>(k) + 16, -1);
  kernel(scores, n, k, offset, scratch.data(), out.data());
  out.resize(static_cast<size_t>(k));
  SHADOW_CHECK(out == Oracle(scores, n, k, offset), "%s int%zu n %d k %d kind %d", name, 8 * sizeof(T), n, k, kind);
}

template <class T, class Function>
void Test(Function kernel, const char* name) {
  constexpr int kLow = std::numeric_limits<T>::min(), kHigh = std::numeric_limits<T>::max();
  for (int n : kSizes) {
    for (int kind = 0; kind < kKinds; ++kind) {
      const size_t begin = static_cast<size_t>(RandomInt(0, 15));  // scores need no alignment
      std::vector<T> scores(begin + static_cast<size_t>(n));       // and nothing follows them
      for (int i = 0; i < n; ++i) {
        scores[begin + static_cast<size_t>(i)] = static_cast<T>(Score(static_cast<Kind>(kind), i, n, kLow, kHigh));
      }
      const int sizes[] = {0, 1, 2, n / 20, n / 5, n / 2, n - 1, n, RandomInt(0, n)};
      for (int k : sizes) {
        if (k >= 0 && k <= n) TestRow(kernel, name, scores.data() + begin, n, k, kind);
      }
    }
  }
}

void TestAll() {
#define SHADOW_KERNEL(needed, name)                                         \
  if (testing::HasArch(#name, needed)) {                                    \
    Test<int32_t>(SelectInt32##name, #name);                                \
    Test<int8_t>(SelectInt8##name, #name);                                  \
    SHADOW_CHECK(GetSelectInt32Kernel(needed) == SelectInt32##name, #name); \
    SHADOW_CHECK(GetSelectInt8Kernel(needed) == SelectInt8##name, #name);   \
  }
#include "kernels/select/kernels.inc"
#undef SHADOW_KERNEL
}

}  // namespace
}  // namespace shadow

int main() {
  shadow::testing::Start("select");
  shadow::TestAll();
  return shadow::testing::Finish();
}
