// The quantise kernels over a float vector type F (kernels/simd/). Only ISA files include this.
#ifndef SHADOWATTN_DELEGATE_KERNELS_QUANTIZE_GENERIC_H_
#define SHADOWATTN_DELEGATE_KERNELS_QUANTIZE_GENERIC_H_

#include <cfloat>
#include <cstdint>
#include <cstring>

#include "kernels/quantize/kernels.h"

namespace shadow {

// The first `count` floats of p and zeros after them: a tensor's row must not be read past its end.
template <class F>
typename F::V LoadPartial(const float* p, int count) {
  float buffer[F::kLanes] = {};
  std::memcpy(buffer, p, static_cast<size_t>(count) * sizeof(float));
  return F::Load(buffer);
}

// State of one row of K while it is quantised.
template <class F>
struct KeyQuantizer {
  using V = typename F::V;
  V inv_scale;
  V not_finite = F::Set(0);  // becomes NaN where x is NaN or infinite
  int clamped = 0;

  void Run(V x, V centre, int8_t* out) {
    // Values beyond 127.5 round to 128 (half to even), so exactly these are clamped.
    const V limit = F::Set(127.5f);
    not_finite = F::Add(not_finite, F::Mul(x, F::Set(0)));
    const V scaled = F::Mul(F::Sub(x, centre), inv_scale);
    clamped += F::CountGreaterEqual(F::Abs(scaled), limit);
    F::Store(out, F::Round(F::Max(F::Min(scaled, F::Set(127)), F::Set(-127))));
  }
};

template <class F>
int QuantizeKey(const float* x, const float* centre, float inv_scale, int d, int8_t* out) {
  KeyQuantizer<F> quantizer{F::Set(inv_scale)};
  int i = 0;
  for (; i + F::kLanes <= d; i += F::kLanes) quantizer.Run(F::Load(x + i), F::Load(centre + i), out + i);
  if (i < d) {
    int8_t buffer[F::kLanes];
    quantizer.Run(LoadPartial<F>(x + i, d - i), LoadPartial<F>(centre + i, d - i), buffer);
    std::memcpy(out + i, buffer, static_cast<size_t>(d - i));
  }
  return F::AnyNan(quantizer.not_finite) ? -1 : quantizer.clamped;
}

// max |x|, or a negative number if a value is not finite.
template <class F>
float LargestMagnitude(const float* x, int d) {
  typename F::V largest = F::Set(0), not_finite = F::Set(0);
  for (int i = 0; i < d; i += F::kLanes) {
    const typename F::V v = i + F::kLanes <= d ? F::Load(x + i) : LoadPartial<F>(x + i, d - i);
    largest = F::Max(largest, F::Abs(v));
    not_finite = F::Add(not_finite, F::Mul(v, F::Set(0)));
  }
  return F::AnyNan(not_finite) ? -1.0f : F::MaxLanes(largest);
}

template <class F>
int32_t QuantizeQuery(const float* x, int d, int8_t* out, float* largest) {
  *largest = LargestMagnitude<F>(x, d);
  if (*largest < 0) return INT32_MIN;
  const float multiplier = 127.0f / *largest;
  if (!(multiplier <= FLT_MAX)) {  // the row is zero, or so small that the quotient overflows
    std::memset(out, 0, static_cast<size_t>(d));
    return 0;
  }
  // The sum of at most 512 values up to 127 is exact in float32.
  typename F::V sum = F::Set(0);
  int i = 0;
  for (; i + F::kLanes <= d; i += F::kLanes) {
    const typename F::V v = F::Round(F::Mul(F::Load(x + i), F::Set(multiplier)));
    sum = F::Add(sum, v);
    F::Store(out + i, v);
  }
  if (i < d) {
    int8_t buffer[F::kLanes];
    const typename F::V v = F::Round(F::Mul(LoadPartial<F>(x + i, d - i), F::Set(multiplier)));
    sum = F::Add(sum, v);
    F::Store(buffer, v);
    std::memcpy(out + i, buffer, static_cast<size_t>(d - i));
  }
  return static_cast<int32_t>(F::SumLanes(sum));
}

// Defines the kernels of one ISA.
#define SHADOW_DEFINE_QUANTIZE(name, F)                                                             \
  int QuantizeKey##name(const float* x, const float* centre, float inv_scale, int d, int8_t* out) { \
    return QuantizeKey<F>(x, centre, inv_scale, d, out);                                            \
  }                                                                                                 \
  int32_t QuantizeQuery##name(const float* x, int d, int8_t* out, float* largest) {                 \
    return QuantizeQuery<F>(x, d, out, largest);                                                    \
  }

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_QUANTIZE_GENERIC_H_
