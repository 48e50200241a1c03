// Without VNNI: bytes widened to 16 bits, vpmaddwd. (vpmaddubsw would saturate.)

#include "kernels/estimate/generic.h"
#include "kernels/simd/x86.h"

namespace shadow {
namespace {

struct Dot {
  static constexpr int kRows = 5;
  static constexpr int kVecs = 2;
  static constexpr int kKeys = 16;
  struct Key {  // of every 128-bit lane: the first two keys, the last two
    __m512i first, last;
  };
  using Query = __m512i;
  struct Sums {  // two partial sums for each key, ordered like Key
    __m512i first, last;
  };

  static Key LoadKey(const uint8_t* p) {
    const __m512i k = _mm512_loadu_si512(p), zero = _mm512_setzero_si512();
    return {_mm512_unpacklo_epi8(k, zero), _mm512_unpackhi_epi8(k, zero)};
  }
  static Query LoadQuery(const int8_t* p) {
    int32_t four;
    __builtin_memcpy(&four, p, sizeof(four));
    return _mm512_broadcastq_epi64(_mm_cvtepi8_epi16(_mm_cvtsi32_si128(four)));
  }
  static Sums Start(int32_t) { return {_mm512_setzero_si512(), _mm512_setzero_si512()}; }
  static Sums Dot4(Sums sums, Key k, Query q) {
    return {_mm512_add_epi32(sums.first, _mm512_madd_epi16(k.first, q)),
            _mm512_add_epi32(sums.last, _mm512_madd_epi16(k.last, q))};
  }
  static void Store(int32_t* scores, Sums sums, int32_t q_sum) {
    const __m512 first = _mm512_castsi512_ps(sums.first), last = _mm512_castsi512_ps(sums.last);
    const __m512i even = _mm512_castps_si512(_mm512_shuffle_ps(first, last, 0x88));
    const __m512i odd = _mm512_castps_si512(_mm512_shuffle_ps(first, last, 0xdd));
    const __m512i offset = _mm512_set1_epi32(128 * q_sum);
    _mm512_storeu_si512(scores, _mm512_sub_epi32(_mm512_add_epi32(even, odd), offset));
  }
};

}  // namespace

SHADOW_DEFINE_ESTIMATE(Avx512, Dot)

}  // namespace shadow
