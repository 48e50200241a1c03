// FP16 (IEEE binary16) to float32 and back in portable code, for machines without a conversion instruction.
#ifndef SHADOWATTN_DELEGATE_KERNELS_FP16_H_
#define SHADOWATTN_DELEGATE_KERNELS_FP16_H_

#include <cstdint>
#include <cstring>

namespace shadow {

static inline float FloatFromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

static inline uint32_t BitsFromFloat(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

static inline float FloatFromFp16(uint16_t fp16) {
  const uint32_t sign = static_cast<uint32_t>(fp16 & 0x8000u) << 16;
  const uint32_t magnitude = fp16 & 0x7fffu;
  if (magnitude >= 0x7c00u) return FloatFromBits(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  // Read as a float32, the exponent is 112 too small. The product corrects that; it is exact for subnormals too.
  const float scaled = FloatFromBits(magnitude << 13) * FloatFromBits((254u - 15u) << 23);
  return FloatFromBits(sign | BitsFromFloat(scaled));
}

// Rounds to nearest even; from 65520 on the result is infinity.
static inline uint16_t Fp16FromFloat(float value) {
  const uint32_t bits = BitsFromFloat(value);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t fp16;
  if (magnitude > 0x7f800000u) {
    fp16 = 0x7e00u;  // NaN
  } else if (magnitude >= 0x47800000u) {
    fp16 = 0x7c00u;  // 65536 and more
  } else if (magnitude < 0x38800000u) {
    // Below 2^-14: adding 0.5 puts the last bit of the subnormal FP16 into the last bit of the sum, rounded by the FPU.
    fp16 = BitsFromFloat(FloatFromBits(magnitude) + 0.5f) - BitsFromFloat(0.5f);
  } else {
    const uint32_t odd = magnitude >> 13 & 1u;
    fp16 = (magnitude - (112u << 23) + 0xfffu + odd) >> 13;
  }
  return static_cast<uint16_t>(sign | fp16);
}

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_FP16_H_
