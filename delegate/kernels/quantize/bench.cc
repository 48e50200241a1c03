// ns per element of the quantise kernels; rows of K and Q lie in L1.
#include "kernels/benching.h"
#include "kernels/quantize/kernels.h"
#include "kernels/testing.h"

namespace shadow {
namespace {

void Bench(const char* name, QuantizeKeyFn key, QuantizeQueryFn query, int d) {
  const size_t size = static_cast<size_t>(d);
  std::vector<float> x(size), centre(size);
  for (float& v : x) v = testing::RandomNormal();
  for (float& v : centre) v = testing::RandomNormal();
  std::vector<int8_t> out(size), expected(size);
  int result = key(x.data(), centre.data(), 40.0f, d, out.data());
  SHADOW_CHECK(result == QuantizeKeyScalar(x.data(), centre.data(), 40.0f, d, expected.data()), "%s", name);
  SHADOW_CHECK(out == expected, "%s", name);
  float largest = 0;
  result = query(x.data(), d, out.data(), &largest);
  SHADOW_CHECK(result == QuantizeQueryScalar(x.data(), d, expected.data(), &largest), "%s", name);
  SHADOW_CHECK(out == expected, "%s", name);
  const double k_ns = testing::Nanoseconds([&] { key(x.data(), centre.data(), 40.0f, d, out.data()); });
  const double q_ns = testing::Nanoseconds([&] { query(x.data(), d, out.data(), &largest); });
  std::printf("quantize %-10s d %3d: key %.3f ns/element, query %.3f ns/element\n", name, d, k_ns / d, q_ns / d);
}

void BenchAll() {
#define SHADOW_KERNEL(needed, name)                            \
  if (testing::HasArch(#name, needed)) {                       \
    for (int d : {64, 128}) {                                  \
      Bench(#name, QuantizeKey##name, QuantizeQuery##name, d); \
    }                                                          \
  }
#include "kernels/quantize/kernels.inc"
#undef SHADOW_KERNEL
}

}  // namespace
}  // namespace shadow

int main() {
  shadow::testing::Start("quantize bench");
  shadow::BenchAll();
  return shadow::testing::Finish();
}
