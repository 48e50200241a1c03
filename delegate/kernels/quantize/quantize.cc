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
  float largest_float = 0.0f;
  bool finite = true;
  for (int i = 0; i < d; ++i) {
    const float magnitude = std::fabs(x[i]);
    largest_float = magnitude > largest_float ? magnitude : largest_float;
    finite &= magnitude <= FLT_MAX;
  }
  if (!finite) return -1.0;
  double variance = 0.0;
  for (int i = 0; i < d; ++i) {
    const double q = static_cast<double>(x[i]);
    variance += q * q * static_cast<double>(k_variance[i]);
  }
  const double largest = static_cast<double>(largest_float);
  const double by_spread = kSpreadLevels / (static_cast<double>(estimate_multiplier) * std::sqrt(variance));
  const double step = std::fmin(by_spread, 127.0 / largest);
  // The row is zero, or so small that the step overflows.
  return step <= static_cast<double>(FLT_MAX) ? step : 0.0;
}

bool QuantizeQueryCoarse(const float* x, const float* k_variance, float estimate_multiplier, int d, int8_t* out) {
  const double step = CoarseStep(x, k_variance, estimate_multiplier, d);
  const auto multiplier = static_cast<float>(step);
  if (step < 0) return false;
  // No branches and no library calls, so that a compiler can vectorise. The last bit of 1.5 * 2^23 is worth 1, so
  // adding and subtracting it rounds half to even.
  for (int i = 0; i < d; ++i) {
    const float scaled = x[i] * multiplier;
    const float clamped = scaled < -127.0f ? -127.0f : (scaled > 127.0f ? 127.0f : scaled);
    out[i] = static_cast<int8_t>((clamped + 12582912.0f) - 12582912.0f);
  }
  return true;
}

void PackKey(const int8_t* key, int d, int row, uint8_t* k_u8) {
  uint8_t* out = k_u8 + row * 4;
  for (int c = 0; c < PaddedBytes(d); c += 4, out += kPageRows * 4) {
    for (int i = 0; i < 4; ++i) out[i] = c + i < d ? static_cast<uint8_t>(key[c + i] + 128) : uint8_t{128};
  }
}

}  // namespace shadow
