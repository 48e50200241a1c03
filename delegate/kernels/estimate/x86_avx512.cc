// Without VNNI: vpmaddubsw of the query's magnitude by the key with the query's sign. Two products of at most 128 * 127
// fit into 16 bits, so nothing saturates. Queries in [0, 127] save an instruction.

#include "kernels/estimate/generic.h"
#include "kernels/simd/x86.h"

namespace shadow {
namespace {

struct PositiveDot {
  static constexpr bool kUsesSum = false;
  static constexpr int kRows = 6;
  static constexpr int kVecs = 4;
  static constexpr int kKeys = 16;
  using Key = __m512i;
  using Query = __m512i;
  using Sums = __m512i;

  static Key LoadKey(const uint8_t* p) {
    return _mm512_xor_si512(_mm512_loadu_si512(p), _mm512_set1_epi8(-128));  // key, not key + 128
  }
  static Query LoadQuery(const int8_t* p) {
    int32_t four;
    __builtin_memcpy(&four, p, sizeof(four));
    return _mm512_set1_epi32(four);
  }
  static Sums Start(int32_t) { return _mm512_setzero_si512(); }
  static Sums Dot4(Sums sums, Key k, Query q) {
    const __m512i pairs = _mm512_maddubs_epi16(q, k);
    return _mm512_add_epi32(sums, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
  }
  static void Store(int32_t* scores, Sums sums) { _mm512_storeu_si512(scores, sums); }
};

struct Dot : PositiveDot {
  struct Query {
    __mmask64 negative;
    __m512i magnitude;
  };
  static Query LoadQuery(const int8_t* p) {
    const __m512i q = PositiveDot::LoadQuery(p);
    return {_mm512_movepi8_mask(q), _mm512_abs_epi8(q)};
  }
  static Sums Dot4(Sums sums, Key k, const Query& q) {
    const __m512i signed_key = _mm512_mask_sub_epi8(k, q.negative, _mm512_setzero_si512(), k);
    return PositiveDot::Dot4(sums, signed_key, q.magnitude);
  }
};

}  // namespace

SHADOW_DEFINE_ESTIMATE(Avx512, Dot, PositiveDot)

}  // namespace shadow
