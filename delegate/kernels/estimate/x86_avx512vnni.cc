// vpdpbusd: four products of uint8 by int8, summed exactly into an int32. The uint8 is key + 128, or a query in [0,
// 127].

#include "kernels/estimate/generic.h"
#include "kernels/simd/x86.h"

namespace shadow {
namespace {

struct Dot {
  static constexpr bool kUsesSum = true;
  static constexpr int kRows = 6;
  static constexpr int kVecs = 4;
  static constexpr int kKeys = 16;
  using Key = __m512i;
  using Query = __m512i;
  using Sums = __m512i;

  static Key LoadKey(const uint8_t* p) {
    Key key = _mm512_loadu_si512(p);
    __asm__("" : "+v"(key));  // otherwise GCC loads the keys once per row where there are few rows
    return key;
  }
  static Query LoadQuery(const int8_t* p) {
    int32_t four;
    __builtin_memcpy(&four, p, sizeof(four));
    return _mm512_set1_epi32(four);
  }
  static Sums Start(int32_t q_sum) { return _mm512_set1_epi32(-128 * q_sum); }
  static Sums Dot4(Sums sums, Key k, Query q) { return _mm512_dpbusd_epi32(sums, k, q); }
  static void Store(int32_t* scores, Sums sums) { _mm512_storeu_si512(scores, sums); }
};

struct PositiveDot : Dot {
  static constexpr bool kUsesSum = false;
  static Key LoadKey(const uint8_t* p) { return _mm512_xor_si512(Dot::LoadKey(p), _mm512_set1_epi8(-128)); }
  static Sums Start(int32_t) { return _mm512_setzero_si512(); }
  static Sums Dot4(Sums sums, Key k, Query q) { return _mm512_dpbusd_epi32(sums, q, k); }
};

}  // namespace

SHADOW_DEFINE_ESTIMATE(Avx512Vnni, Dot, PositiveDot)

}  // namespace shadow
