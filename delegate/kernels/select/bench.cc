// ns per score of the select kernels on scores like those of attention: normal, int32 with a spread of some thousands,
// int8 with a spread of 24 levels. Rows alternate, so that the branch predictor cannot learn one row.
#include <algorithm>

#include "kernels/benching.h"
#include "kernels/select/kernels.h"
#include "kernels/testing.h"

namespace shadow {
namespace {

constexpr size_t kRows = 16;

template <class T, class Function>
void Bench(const char* name, Function kernel, Function scalar, float spread, int n, float keep_ratio) {
  const int k = static_cast<int>(keep_ratio * static_cast<float>(n));
  const size_t size = static_cast<size_t>(n);
  std::vector<T> scores(size * kRows);
  for (T& s : scores) s = static_cast<T>(std::clamp(testing::RandomNormal(), -5.0f, 5.0f) * spread);
  std::vector<int32_t> scratch(size + 64), out(static_cast<size_t>(k) + 16), expected(out.size());
  for (size_t r = 0; r < kRows; ++r) {
    kernel(scores.data() + r * size, n, k, 0, scratch.data(), out.data());
    scalar(scores.data() + r * size, n, k, 0, scratch.data(), expected.data());
    SHADOW_CHECK(std::equal(out.begin(), out.begin() + k, expected.begin()), "%s", name);
  }
  size_t row = 0;
  const double ns = testing::Nanoseconds([&] {
    row = (row + 1) % kRows;
    kernel(scores.data() + row * size, n, k, 0, scratch.data(), out.data());
  });
  std::printf("select int%-2zu %-8s n %5d keep_ratio %.2f: %.3f ns/score\n", 8 * sizeof(T), name, n,
              static_cast<double>(keep_ratio), ns / n);
}

void BenchAll() {
#define SHADOW_KERNEL(needed, name)                                                          \
  if (testing::HasArch(#name, needed)) {                                                     \
    for (int n : {512, 2048, 4096, 8192}) {                                                  \
      for (float keep_ratio : {0.05f, 0.2f}) {                                               \
        Bench<int32_t>(#name, SelectInt32##name, SelectInt32Scalar, 5000.0f, n, keep_ratio); \
        Bench<int8_t>(#name, SelectInt8##name, SelectInt8Scalar, 24.0f, n, keep_ratio);      \
      }                                                                                      \
    }                                                                                        \
  }
#include "kernels/select/kernels.inc"
#undef SHADOW_KERNEL
}

}  // namespace
}  // namespace shadow

int main() {
  shadow::testing::Start("select bench");
  shadow::BenchAll();
  return shadow::testing::Finish();
}
