// The float vector of the generic kernels (see scalar.h) for AVX2, FMA and F16C.
#ifndef SHADOWATTN_DELEGATE_KERNELS_SIMD_AVX2_H_
#define SHADOWATTN_DELEGATE_KERNELS_SIMD_AVX2_H_

#include <cstdint>

#include "kernels/simd/x86.h"

namespace shadow::avx2 {

struct Floats {
  static constexpr int kLanes = 8;
  static constexpr int kRowBlock = 6;
  static constexpr int kVecBlock = 2;
  static constexpr int kGatherVecs = 4;
  using V = __m256;

  static V Set(float a) { return _mm256_set1_ps(a); }
  static V Load(const float* p) { return _mm256_loadu_ps(p); }
  static V Load(const uint16_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static void Store(float* p, V a) { _mm256_storeu_ps(p, a); }
  static void Store(uint16_t* p, V a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
  }
  static void Store(int8_t* p, V a) { StoreRounded(p, a); }
  static void StoreRounded(int8_t* p, V a) {
    const __m256i words = _mm256_cvtps_epi32(a);
    const __m128i shorts = _mm_packs_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(shorts, shorts));
  }

  static V Add(V a, V b) { return _mm256_add_ps(a, b); }
  static V Sub(V a, V b) { return _mm256_sub_ps(a, b); }
  static V Mul(V a, V b) { return _mm256_mul_ps(a, b); }
  static V MulAdd(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
  static V Fused(V a, V b, V c) { return MulAdd(a, b, c); }
  static V Max(V a, V b) { return _mm256_max_ps(a, b); }
  static V Min(V a, V b) { return _mm256_min_ps(a, b); }
  static V Abs(V a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
  static V Round(V a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static V Ldexp(V a, V n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    const __m256i bits = _mm256_slli_epi32(_mm256_max_epi32(exponent, _mm256_setzero_si256()), 23);
    return Mul(a, _mm256_castsi256_ps(bits));
  }
  static V Fraction(V a) { return Sub(a, _mm256_floor_ps(a)); }
  static constexpr float kScaleUnit = 1;
  static V Scale(V a, V n) {
    const V bounded = Min(Max(Sub(_mm256_floor_ps(n), Set(64.0f)), Set(-127.0f)), Set(128.0f));
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(bounded), _mm256_set1_epi32(127));
    return Mul(a, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
  }
  struct FlushSubnormals {
    FlushSubnormals() {}
  };

  static float SumLanes(V a) {
    const __m128 half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
  }
  static float MaxLanes(V a) {
    const __m128 half = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 pair = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)));
  }
  static bool AnyNan(V a) { return _mm256_movemask_ps(_mm256_cmp_ps(a, a, _CMP_UNORD_Q)) != 0; }
  static int CountGreaterEqual(V a, V b) {
    return _mm_popcnt_u32(static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ))));
  }

  static V LoadBelow(const int32_t* p, int32_t largest) {
    const __m256i scores = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(scores, _mm256_set1_epi32(largest)));
  }
  static V LoadBelow(const int8_t* p, int8_t largest) {
    const __m256i scores = _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(scores, _mm256_set1_epi32(largest)));
  }

  static uint32_t MaskGreaterEqual(V a, V b) {
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ)));
  }
  static V ZeroWhere(uint32_t mask, V a) {
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i set = _mm256_and_si256(_mm256_set1_epi32(static_cast<int32_t>(mask)), bit);
    return _mm256_andnot_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(set, bit)), a);
  }

  static constexpr bool kCompresses = false;
  static constexpr bool kHasFp16 = false;
  static int CountLess(const int32_t* p, int32_t limit) {
    const __m256i values = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    const __m256i less = _mm256_cmpgt_epi32(_mm256_set1_epi32(limit), values);
    return _mm_popcnt_u32(static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(less))));
  }

  static V SumEach(const V (&a)[kLanes]) {
    const V low = SumFour(a[0], a[1], a[2], a[3]), high = SumFour(a[4], a[5], a[6], a[7]);
    return Add(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31));
  }

  static void Transpose(V (&a)[kLanes]) {
    V b[kLanes];
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {  // 4 x 4 blocks within the 128-bit lanes
      const V ab_low = _mm256_unpacklo_ps(a[i], a[i + 1]), ab_high = _mm256_unpackhi_ps(a[i], a[i + 1]);
      const V cd_low = _mm256_unpacklo_ps(a[i + 2], a[i + 3]), cd_high = _mm256_unpackhi_ps(a[i + 2], a[i + 3]);
      b[i] = _mm256_shuffle_ps(ab_low, cd_low, 0x44);
      b[i + 1] = _mm256_shuffle_ps(ab_low, cd_low, 0xee);
      b[i + 2] = _mm256_shuffle_ps(ab_high, cd_high, 0x44);
      b[i + 3] = _mm256_shuffle_ps(ab_high, cd_high, 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {  // then the lanes themselves
      a[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
      a[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
    }
  }

 private:
  // Each 128-bit lane of the result holds the sums of that lane of a, b, c and d.
  static V SumFour(V a, V b, V c, V d) {
    const V ab = Add(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    const V cd = Add(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    return Add(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
  }
};

struct Ints {
  static constexpr int kLanes = Floats::kLanes;
  using V = __m256i;

  static V Set(int32_t a) { return _mm256_set1_epi32(a); }
  static V Load(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static V Max(V a, V b) { return _mm256_max_epi32(a, b); }
  static int32_t MaxLanes(V a) {
    const __m128i half = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    const __m128i pair = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(pair, _mm_shuffle_epi32(pair, 0xb1)));
  }
  static Floats::V AddWhereLess(Floats::V sum, V a, V b, Floats::V addend) {
    return Floats::Add(sum, _mm256_and_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(b, a)), addend));
  }
  static uint64_t MaskLess64(const int32_t* p, int32_t limit) {
    return MaskLess32(p, Set(limit)) | uint64_t{MaskLess32(p + 32, Set(limit))} << 32;
  }
  static constexpr bool kExpands = false;

 private:
  static uint32_t MaskLess32(const int32_t* p, V limit) {
    const V low = PackLess(p, limit), high = PackLess(p + 2 * kLanes, limit);
    // Packing works within 128-bit lanes, which leaves fours of integers in the order 0, 2, 4, 6, 1, 3, 5, 7.
    const V bytes = _mm256_packs_epi16(low, high);
    const V sorted = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    return static_cast<uint32_t>(_mm256_movemask_epi8(sorted));
  }
  static V PackLess(const int32_t* p, V limit) {
    return _mm256_packs_epi32(_mm256_cmpgt_epi32(limit, Load(p)), _mm256_cmpgt_epi32(limit, Load(p + kLanes)));
  }
};

}  // namespace shadow::avx2

#endif  // SHADOWATTN_DELEGATE_KERNELS_SIMD_AVX2_H_
