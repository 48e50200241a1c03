// The float vector of the generic kernels (see scalar.h) for AVX-512 F, BW, DQ and VL, and VBMI2 or FP16 where a file
// is compiled for it. Such a file names another namespace, or the linker might use its functions in other files.
#ifndef SHADOWATTN_DELEGATE_KERNELS_SIMD_AVX512_H_
#define SHADOWATTN_DELEGATE_KERNELS_SIMD_AVX512_H_

#include <cstdint>

#include "kernels/simd/x86.h"

#ifndef SHADOW_AVX512_NAMESPACE
#define SHADOW_AVX512_NAMESPACE avx512
#endif

namespace shadow::SHADOW_AVX512_NAMESPACE {

#if defined(__AVX512VBMI2__)
// 0, 1, 2 ...
struct Bytes {
  alignas(64) uint8_t of[64] = {};
  constexpr Bytes() {
    for (int i = 0; i < 64; ++i) of[i] = static_cast<uint8_t>(i);
  }
};
constexpr Bytes kBytes;
#endif

struct Floats {
  static constexpr int kLanes = 16;
  static constexpr int kRowBlock = 6;
  static constexpr int kVecBlock = 4;
  static constexpr int kGatherVecs = 8;
  using V = __m512;

  static V Set(float a) { return _mm512_set1_ps(a); }
  static V Load(const float* p) { return _mm512_loadu_ps(p); }
  static V Load(const uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static void Store(float* p, V a) { _mm512_storeu_ps(p, a); }
  static void Store(uint16_t* p, V a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
  }
  static void Store(int8_t* p, V a) { StoreRounded(p, a); }
  static void StoreRounded(int8_t* p, V a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
  }

  static V Add(V a, V b) { return _mm512_add_ps(a, b); }
  static V Sub(V a, V b) { return _mm512_sub_ps(a, b); }
  static V Mul(V a, V b) { return _mm512_mul_ps(a, b); }
  static V MulAdd(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  static V Fused(V a, V b, V c) { return MulAdd(a, b, c); }
  static V Max(V a, V b) { return _mm512_max_ps(a, b); }
  static V Min(V a, V b) { return _mm512_min_ps(a, b); }
  static V Abs(V a) { return _mm512_abs_ps(a); }
  static V Round(V a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  // Zero where the other ISAs give zero: a subnormal weight would make every product a hundred times slower.
  static V Ldexp(V a, V n) {
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(n, _mm512_set1_ps(-127.0f), _CMP_GT_OQ), a, n);
  }
  static V Fraction(V a) { return _mm512_reduce_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
  static constexpr float kScaleUnit = 0x1p-64f;
  static V Scale(V a, V n) { return _mm512_scalef_ps(a, n); }
  class FlushSubnormals {
   public:
    FlushSubnormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | _MM_FLUSH_ZERO_ON); }
    ~FlushSubnormals() { _mm_setcsr(before_); }
    FlushSubnormals(const FlushSubnormals&) = delete;
    FlushSubnormals& operator=(const FlushSubnormals&) = delete;

   private:
    unsigned before_;
  };

  static float SumLanes(V a) { return _mm512_reduce_add_ps(a); }
  static float MaxLanes(V a) { return _mm512_reduce_max_ps(a); }
  static bool AnyNan(V a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q) != 0; }
  static int CountGreaterEqual(V a, V b) { return _mm_popcnt_u32(_mm512_cmp_ps_mask(a, b, _CMP_GE_OQ)); }

  static V LoadBelow(const int32_t* p, int32_t largest) {
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_loadu_si512(p), _mm512_set1_epi32(largest)));
  }
  static V LoadBelow(const int8_t* p, int8_t largest) {
    const __m512i scores = _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(scores, _mm512_set1_epi32(largest)));
  }

  static uint32_t MaskGreaterEqual(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
  static V ZeroWhere(uint32_t mask, V a) { return _mm512_maskz_mov_ps(static_cast<__mmask16>(~mask), a); }

  static constexpr bool kCompresses = true;
  static int Compress(const float* values, uint64_t mask, int32_t first, int32_t* indices, float* out) {
#if defined(__AVX512VBMI2__)
    if (const int count = static_cast<int>(_mm_popcnt_u64(mask)); count <= kLanes) {
      CompressFew(values, mask, first, indices, out);
      return count;
    }
#endif
    __m512i index = _mm512_add_epi32(_mm512_set1_epi32(first),
                                     _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    int count = 0;
#pragma GCC unroll 4
    for (int i = 0; i < 64; i += kLanes, mask >>= kLanes) {
      // Compresses in a register and stores the whole vector: compressing into memory is slow on Zen 4.
      const auto some = static_cast<__mmask16>(mask);
      _mm512_storeu_si512(indices + count, _mm512_maskz_compress_epi32(some, index));
      Store(out + count, _mm512_maskz_compress_ps(some, Load(values + i)));
      count += _mm_popcnt_u32(some);
      index = _mm512_add_epi32(index, _mm512_set1_epi32(kLanes));
    }
    return count;
  }

  static int CountLess(const int32_t* p, int32_t limit) {
    return _mm_popcnt_u32(_mm512_cmplt_epi32_mask(_mm512_loadu_si512(p), _mm512_set1_epi32(limit)));
  }

#if defined(__AVX512FP16__)
  static constexpr bool kHasFp16 = true;
  static constexpr int kFp16Lanes = 32;
  static constexpr int kFp16Vecs = 2;
  using Fp16V = __m512h;
  static Fp16V LoadFp16(const uint16_t* p) { return _mm512_loadu_ph(p); }
  static Fp16V SetPair(uint32_t pair) { return _mm512_castsi512_ph(_mm512_set1_epi32(static_cast<int32_t>(pair))); }
  static Fp16V MulFp16(Fp16V a, Fp16V b) { return _mm512_mul_ph(a, b); }
  static Fp16V MulAddFp16(Fp16V a, Fp16V b, Fp16V c) { return _mm512_fmadd_ph(a, b, c); }
  static Fp16V AddFp16(Fp16V a, Fp16V b) { return _mm512_add_ph(a, b); }
  static V Low(Fp16V a) { return _mm512_cvtxph_ps(_mm512_castph512_ph256(a)); }
  static V High(Fp16V a) { return _mm512_cvtph_ps(_mm512_extracti64x4_epi64(_mm512_castph_si512(a), 1)); }
  static void StorePairs(uint32_t* p, V a) {
    const __m512i fp16 = _mm512_cvtepu16_epi32(_mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
    _mm512_storeu_si512(p, _mm512_or_si512(fp16, _mm512_slli_epi32(fp16, 16)));
  }
#else
  static constexpr bool kHasFp16 = false;
#endif

  static V SumEach(const V (&a)[kLanes]) {
    V quad[4];  // 128-bit lane i of quad[j]: the sums of lane i of a[4j], ..., a[4j + 3]
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const V ab = Add(_mm512_unpacklo_ps(a[4 * j], a[4 * j + 1]), _mm512_unpackhi_ps(a[4 * j], a[4 * j + 1]));
      const V cd = Add(_mm512_unpacklo_ps(a[4 * j + 2], a[4 * j + 3]), _mm512_unpackhi_ps(a[4 * j + 2], a[4 * j + 3]));
      quad[j] = Add(LowPairs(ab, cd), HighPairs(ab, cd));
    }
    const V low = AddLanes(quad[0], quad[1]), high = AddLanes(quad[2], quad[3]);
    return AddLanes(low, high);
  }

  static void Transpose(V (&a)[kLanes]) {
    V b[kLanes];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 4) {  // 4 x 4 blocks within the 128-bit lanes
      const V ab_low = _mm512_unpacklo_ps(a[i], a[i + 1]), ab_high = _mm512_unpackhi_ps(a[i], a[i + 1]);
      const V cd_low = _mm512_unpacklo_ps(a[i + 2], a[i + 3]), cd_high = _mm512_unpackhi_ps(a[i + 2], a[i + 3]);
      b[i] = LowPairs(ab_low, cd_low);
      b[i + 1] = HighPairs(ab_low, cd_low);
      b[i + 2] = LowPairs(ab_high, cd_high);
      b[i + 3] = HighPairs(ab_high, cd_high);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {  // then a 4 x 4 transpose of the lanes themselves
      const V low_even = _mm512_shuffle_f32x4(b[i], b[i + 4], 0x88),
              low_odd = _mm512_shuffle_f32x4(b[i], b[i + 4], 0xdd);
      const V high_even = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0x88);
      const V high_odd = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0xdd);
      a[i] = _mm512_shuffle_f32x4(low_even, high_even, 0x88);
      a[i + 4] = _mm512_shuffle_f32x4(low_odd, high_odd, 0x88);
      a[i + 8] = _mm512_shuffle_f32x4(low_even, high_even, 0xdd);
      a[i + 12] = _mm512_shuffle_f32x4(low_odd, high_odd, 0xdd);
    }
  }

 private:
#if defined(__AVX512VBMI2__)
  // At most kLanes elements, whose places are compressed as bytes: a third of the work.
  static void CompressFew(const float* values, uint64_t mask, int32_t first, int32_t* indices, float* out) {
    const __m512i few = _mm512_maskz_compress_epi8(mask, _mm512_load_si512(kBytes.of));
    const __m512i at = _mm512_cvtepu8_epi32(_mm512_castsi512_si128(few));
    const V low = _mm512_permutex2var_ps(Load(values), at, Load(values + kLanes));
    const V high = _mm512_permutex2var_ps(Load(values + 2 * kLanes), at, Load(values + 3 * kLanes));
    const __mmask16 is_high = _mm512_test_epi32_mask(at, _mm512_set1_epi32(2 * kLanes));
    _mm512_storeu_si512(indices, _mm512_add_epi32(at, _mm512_set1_epi32(first)));
    Store(out, _mm512_mask_blend_ps(is_high, low, high));
  }
#endif

  static V LowPairs(V a, V b) { return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))); }
  static V HighPairs(V a, V b) {
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  }
  // (a0 + a1, a2 + a3, b0 + b1, b2 + b3) of 128-bit lanes.
  static V AddLanes(V a, V b) { return Add(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd)); }
};

struct Ints {
  static constexpr int kLanes = Floats::kLanes;
  using V = __m512i;

  static V Set(int32_t a) { return _mm512_set1_epi32(a); }
  static V Load(const int32_t* p) { return _mm512_loadu_si512(p); }
  static V Max(V a, V b) { return _mm512_max_epi32(a, b); }
  static int32_t MaxLanes(V a) { return _mm512_reduce_max_epi32(a); }
  static Floats::V AddWhereLess(Floats::V sum, V a, V b, Floats::V addend) {
    return Floats::Add(sum, _mm512_maskz_mov_ps(_mm512_cmplt_epi32_mask(a, b), addend));
  }
  static uint64_t MaskLess64(const int32_t* p, int32_t limit) {
    uint64_t mask = 0;
#pragma GCC unroll 4
    for (int i = 0; i < 64; i += kLanes) mask |= uint64_t{_mm512_cmplt_epi32_mask(Load(p + i), Set(limit))} << i;
    return mask;
  }

  static constexpr bool kExpands = true;
  static int Expand(uint64_t mask, int32_t* places) {
#if defined(__AVX512VBMI2__)
    const __m512i bytes = _mm512_maskz_compress_epi8(mask, _mm512_load_si512(kBytes.of));
    Widen(_mm512_castsi512_si128(bytes), places);
    Widen(_mm512_extracti32x4_epi32(bytes, 1), places + kLanes);
    Widen(_mm512_extracti32x4_epi32(bytes, 2), places + 2 * kLanes);
    Widen(_mm512_extracti32x4_epi32(bytes, 3), places + 3 * kLanes);
    return static_cast<int>(_mm_popcnt_u64(mask));
#else
    V place = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    int count = 0;
#pragma GCC unroll 4
    for (int i = 0; i < 64; i += kLanes, mask >>= kLanes) {
      const auto some = static_cast<__mmask16>(mask);
      _mm512_storeu_si512(places + count, _mm512_maskz_compress_epi32(some, place));
      count += _mm_popcnt_u32(some);
      place = _mm512_add_epi32(place, Set(kLanes));
    }
    return count;
#endif
  }

 private:
  static void Widen(__m128i bytes, int32_t* to) { _mm512_storeu_si512(to, _mm512_cvtepu8_epi32(bytes)); }
};

}  // namespace shadow::SHADOW_AVX512_NAMESPACE

#endif  // SHADOWATTN_DELEGATE_KERNELS_SIMD_AVX512_H_
