#include "kernels/quantize/quantize.h"

#include <cfloat>
#include <cmath>
#include <cstring>

#include "kernels/layout.h"
#include "kernels/quantize/kernels.h"

namespace shadow {

QuantizeKeyFn GetQuantizeKeyKernel(ArchFlags arch) {
#define SHADOW_KERNEL(needed, name) \
  if ((arch & (needed)) == (needed)) return QuantizeKey##name;
#include "kernels/quantize/kernels.inc"
#undef SHADOW_KERNEL
  return nullptr;
}

QuantizeQueryFn GetQuantizeQueryKernel(ArchFlags arch) {
#define SHADOW_KERNEL(needed, name) \
  if ((arch & (needed)) == (needed)) return QuantizeQuery##name;
#include "kernels/quantize/kernels.inc"
#undef SHADOW_KERNEL
  return nullptr;
}

double CoarseStep(const float* x, const float* k_variance, float estimate_multiplier, int d) {
  constexpr double kSpreadLevels = 24.0;
  double largest = 0.0, variance = 0.0;
  for (int i = 0; i < d; ++i) {
    const double q = static_cast<double>(x[i]);
    if (!std::isfinite(q)) return -1.0;
    largest = std::fmax(largest, std::fabs(q));
    variance += q * q * static_cast<double>(k_variance[i]);
  }
  const double by_spread = kSpreadLevels / (static_cast<double>(estimate_multiplier) * std::sqrt(variance));
  const double step = std::fmin(by_spread, 127.0 / largest);
  // A zero row, or one so small that the step overflows.
  return step <= static_cast<double>(FLT_MAX) ? step : 0.0;
}

bool QuantizeQueryCoarse(const float* x, const float* k_variance, float estimate_multiplier, int d, int8_t* out) {
  const double step = CoarseStep(x, k_variance, estimate_multiplier, d);
  const auto multiplier = static_cast<float>(step);
  for (int i = 0; i < d && step >= 0; ++i) {
    const float rounded = std::nearbyint(x[i] * multiplier);
    out[i] = static_cast<int8_t>(std::fmin(std::fmax(rounded, -127.0f), 127.0f));
  }
  return step >= 0;
}

void PackKey(const int8_t* key, int d, int row, uint8_t* k_u8) {
  uint8_t* out = k_u8 + row * 4;
  for (int c = 0; c < PaddedBytes(d); c += 4, out += kPageRows * 4) {
    for (int i = 0; i < 4; ++i) out[i] = c + i < d ? static_cast<uint8_t>(key[c + i] + 128) : uint8_t{128};
  }
}

}  // namespace shadow
