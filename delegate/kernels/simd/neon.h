// The float vector of the generic kernels (see scalar.h) for Advanced SIMD of AArch64, and FP16 where a file is
// compiled for it. Such a file names another namespace, or the linker might use its functions in other files.
#ifndef SHADOWATTN_DELEGATE_KERNELS_SIMD_NEON_H_
#define SHADOWATTN_DELEGATE_KERNELS_SIMD_NEON_H_

#include <arm_neon.h>

#include <cstdint>

#ifndef SHADOW_NEON_NAMESPACE
#define SHADOW_NEON_NAMESPACE neon
#endif

namespace shadow::SHADOW_NEON_NAMESPACE {

struct Floats {
  static constexpr int kLanes = 4;
  static constexpr int kRowBlock = 6;
  static constexpr int kVecBlock = 4;
  static constexpr int kGatherVecs = 8;
  using V = float32x4_t;

  static V Set(float a) { return vdupq_n_f32(a); }
  static V Load(const float* p) { return vld1q_f32(p); }
  static V Load(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
  static void Store(float* p, V a) { vst1q_f32(p, a); }
  static void Store(uint16_t* p, V a) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(a))); }
  static void Store(int8_t* p, V a) {
    const int16x4_t shorts = vmovn_s32(vcvtq_s32_f32(a));
    const int32x2_t bytes = vreinterpret_s32_s8(vmovn_s16(vcombine_s16(shorts, shorts)));
    const int32_t four = vget_lane_s32(bytes, 0);
    __builtin_memcpy(p, &four, sizeof(four));
  }
  static void StoreRounded(int8_t* p, V a) { Store(p, Round(a)); }

  static V Add(V a, V b) { return vaddq_f32(a, b); }
  static V Sub(V a, V b) { return vsubq_f32(a, b); }
  static V Mul(V a, V b) { return vmulq_f32(a, b); }
  static V MulAdd(V a, V b, V c) { return vfmaq_f32(c, a, b); }
  static V Fused(V a, V b, V c) { return MulAdd(a, b, c); }
  static V Max(V a, V b) { return vmaxq_f32(a, b); }
  static V Min(V a, V b) { return vminq_f32(a, b); }
  static V Abs(V a) { return vabsq_f32(a); }
  static V Round(V a) { return vrndnq_f32(a); }
  static V Ldexp(V a, V n) {
    const int32x4_t exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
    return Mul(a, vreinterpretq_f32_s32(vshlq_n_s32(vmaxq_s32(exponent, vdupq_n_s32(0)), 23)));
  }
  static V Fraction(V a) { return Sub(a, vrndmq_f32(a)); }
  static constexpr float kScaleUnit = 1;
  static V Scale(V a, V n) {
    const V bounded = Min(Max(Sub(vrndmq_f32(n), Set(64.0f)), Set(-127.0f)), Set(128.0f));
    const int32x4_t exponent = vaddq_s32(vcvtq_s32_f32(bounded), vdupq_n_s32(127));
    return Mul(a, vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23)));
  }
  struct FlushSubnormals {
    FlushSubnormals() {}
  };

  static float SumLanes(V a) {
    const float32x2_t pair = vadd_f32(vget_low_f32(a), vget_high_f32(a));  // in the order of the wider vectors
    return vget_lane_f32(vpadd_f32(pair, pair), 0);
  }
  static float MaxLanes(V a) { return vmaxvq_f32(a); }
  static bool AnyNan(V a) { return vminvq_u32(vceqq_f32(a, a)) == 0; }
  static int CountGreaterEqual(V a, V b) { return -vaddvq_s32(vreinterpretq_s32_u32(vcgeq_f32(a, b))); }

  static V LoadBelow(const int32_t* p, int32_t largest) {
    return vcvtq_f32_s32(vsubq_s32(vld1q_s32(p), vdupq_n_s32(largest)));
  }
  static V LoadBelow(const int8_t* p, int8_t largest) {
    int32_t four;
    __builtin_memcpy(&four, p, sizeof(four));
    const int8x8_t bytes = vreinterpret_s8_s32(vdup_n_s32(four));
    return vcvtq_f32_s32(vsubq_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))), vdupq_n_s32(largest)));
  }

  static uint32_t MaskGreaterEqual(V a, V b) { return vaddvq_u32(vandq_u32(vcgeq_f32(a, b), Bits())); }
  static V ZeroWhere(uint32_t mask, V a) {
    const uint32x4_t set = vtstq_u32(vdupq_n_u32(mask), Bits());
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(a), set));
  }

  static constexpr bool kCompresses = false;
#if defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC)
  static constexpr bool kHasFp16 = true;
  static constexpr int kFp16Lanes = 8;
  static constexpr int kFp16Vecs = 8;  // two sums of each leave registers for weights and values
  using Fp16V = float16x8_t;
  static Fp16V LoadFp16(const uint16_t* p) { return vreinterpretq_f16_u16(vld1q_u16(p)); }
  static Fp16V SetPair(uint32_t pair) { return vreinterpretq_f16_u32(vdupq_n_u32(pair)); }
  static Fp16V MulFp16(Fp16V a, Fp16V b) { return vmulq_f16(a, b); }
  static Fp16V MulAddFp16(Fp16V a, Fp16V b, Fp16V c) { return vfmaq_f16(c, a, b); }
  static Fp16V AddFp16(Fp16V a, Fp16V b) { return vaddq_f16(a, b); }
  static V Low(Fp16V a) { return vcvt_f32_f16(vget_low_f16(a)); }
  static V High(Fp16V a) { return vcvt_high_f32_f16(a); }
  static void StorePairs(uint32_t* p, V a) {
    const uint32x4_t fp16 = vmovl_u16(vreinterpret_u16_f16(vcvt_f16_f32(a)));
    vst1q_u32(p, vsliq_n_u32(fp16, fp16, 16));
  }
#else
  static constexpr bool kHasFp16 = false;
#endif
  static int CountLess(const int32_t* p, int32_t limit) {
    return -vaddvq_s32(vreinterpretq_s32_u32(vcltq_s32(vld1q_s32(p), vdupq_n_s32(limit))));
  }

  static V SumEach(const V (&a)[kLanes]) { return vpaddq_f32(AddEnds(a[0], a[1]), AddEnds(a[2], a[3])); }

  static void Transpose(V (&a)[kLanes]) {
    const float64x2_t ab_even = vreinterpretq_f64_f32(vtrn1q_f32(a[0], a[1]));
    const float64x2_t ab_odd = vreinterpretq_f64_f32(vtrn2q_f32(a[0], a[1]));
    const float64x2_t cd_even = vreinterpretq_f64_f32(vtrn1q_f32(a[2], a[3]));
    const float64x2_t cd_odd = vreinterpretq_f64_f32(vtrn2q_f32(a[2], a[3]));
    a[0] = vreinterpretq_f32_f64(vtrn1q_f64(ab_even, cd_even));
    a[1] = vreinterpretq_f32_f64(vtrn1q_f64(ab_odd, cd_odd));
    a[2] = vreinterpretq_f32_f64(vtrn2q_f64(ab_even, cd_even));
    a[3] = vreinterpretq_f32_f64(vtrn2q_f64(ab_odd, cd_odd));
  }

 private:
  // (a0 + a2, a1 + a3, b0 + b2, b1 + b3): the order of the wider vectors.
  static V AddEnds(V a, V b) {
    const float64x2_t wide_a = vreinterpretq_f64_f32(a), wide_b = vreinterpretq_f64_f32(b);
    return vaddq_f32(vreinterpretq_f32_f64(vtrn1q_f64(wide_a, wide_b)),
                     vreinterpretq_f32_f64(vtrn2q_f64(wide_a, wide_b)));
  }
  static uint32x4_t Bits() {
    const uint32_t bits[kLanes] = {1, 2, 4, 8};
    return vld1q_u32(bits);
  }
};

struct Ints {
  static constexpr int kLanes = Floats::kLanes;
  using V = int32x4_t;

  static V Set(int32_t a) { return vdupq_n_s32(a); }
  static V Load(const int32_t* p) { return vld1q_s32(p); }
  static V Max(V a, V b) { return vmaxq_s32(a, b); }
  static int32_t MaxLanes(V a) { return vmaxvq_s32(a); }
  static Floats::V AddWhereLess(Floats::V sum, V a, V b, Floats::V addend) {
    return Floats::Add(sum, vreinterpretq_f32_u32(vandq_u32(vcltq_s32(a, b), vreinterpretq_u32_f32(addend))));
  }
  static uint64_t MaskLess64(const int32_t* p, int32_t limit) {
    const V limits = Set(limit);
    const uint8x16_t low = vpaddq_u8(BitsLess(p, limits), BitsLess(p + 16, limits));
    const uint8x16_t high = vpaddq_u8(BitsLess(p + 32, limits), BitsLess(p + 48, limits));
    const uint8x16_t fours = vpaddq_u8(low, high);  // each byte from two neighbours
    return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(fours, fours)), 0);
  }
  static constexpr bool kExpands = false;

 private:
  // Byte j of the result holds bit j % 8 where p[j] < limit, else zero: bytes 0 to 7 and 8 to 15 form an octet each.
  static uint8x16_t BitsLess(const int32_t* p, V limit) {
    const uint8_t bits[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    return vandq_u8(vuzp1q_u8(PackLess(p, limit), PackLess(p + 8, limit)), vld1q_u8(bits));
  }
  // Compares eight integers: one 16-bit lane each.
  static uint8x16_t PackLess(const int32_t* p, V limit) {
    const uint16x8_t low = vreinterpretq_u16_u32(vcltq_s32(Load(p), limit));
    const uint16x8_t high = vreinterpretq_u16_u32(vcltq_s32(Load(p + kLanes), limit));
    return vreinterpretq_u8_u16(vuzp1q_u16(low, high));
  }
};

}  // namespace shadow::SHADOW_NEON_NAMESPACE

#endif  // SHADOWATTN_DELEGATE_KERNELS_SIMD_NEON_H_
