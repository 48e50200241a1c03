// Bytes widened to 16 bits, vpmaddwd. (vpmaddubsw would saturate.)

#include "kernels/estimate/generic.h"
#include "kernels/simd/x86.h"

namespace shadow {
namespace {

struct Dot {
  static constexpr int kRows = 5;
  static constexpr int kVecs = 1;
  static constexpr int kKeys = 8;
  struct Key {  // of both 128-bit lanes: the first two keys, the last two
    __m256i first, last;
  };
  using Query = __m256i;
  struct Sums {  // two partial sums for each key, ordered like Key
    __m256i first, last;
  };

  static Key LoadKey(const uint8_t* p) {
    const __m256i k = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), zero = _mm256_setzero_si256();
    return {_mm256_unpacklo_epi8(k, zero), _mm256_unpackhi_epi8(k, zero)};
  }
  static Query LoadQuery(const int8_t* p) {
    int32_t four;
    __builtin_memcpy(&four, p, sizeof(four));
    return _mm256_broadcastq_epi64(_mm_cvtepi8_epi16(_mm_cvtsi32_si128(four)));
  }
  static Sums Start(int32_t) { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
  static Sums Dot4(Sums sums, Key k, Query q) {
    return {_mm256_add_epi32(sums.first, _mm256_madd_epi16(k.first, q)),
            _mm256_add_epi32(sums.last, _mm256_madd_epi16(k.last, q))};
  }
  static void Store(int32_t* scores, Sums sums, int32_t q_sum) {
    const __m256i whole = _mm256_hadd_epi32(sums.first, sums.last);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(scores), _mm256_sub_epi32(whole, _mm256_set1_epi32(128 * q_sum)));
  }
};

}  // namespace

SHADOW_DEFINE_ESTIMATE(Avx2, Dot)

}  // namespace shadow
