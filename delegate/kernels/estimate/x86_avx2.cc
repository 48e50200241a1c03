// vpmaddubsw of the query's magnitude by the key with the query's sign: two products of at most 128 * 127 fit into 16
// bits, so nothing saturates. Queries in [0, 127] save an instruction.

#include "kernels/estimate/generic.h"
#include "kernels/simd/x86.h"

namespace shadow {
namespace {

struct PositiveDot {
  static constexpr bool kUsesSum = false;
  static constexpr int kRows = 4;
  static constexpr int kVecs = 2;
  static constexpr int kKeys = 8;
  using Key = __m256i;
  using Query = __m256i;
  using Sums = __m256i;

  static Key LoadKey(const uint8_t* p) {
    const __m256i k = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm256_xor_si256(k, _mm256_set1_epi8(-128));  // key, not key + 128
  }
  static Query LoadQuery(const int8_t* p) {
    int32_t four;
    __builtin_memcpy(&four, p, sizeof(four));
    return _mm256_set1_epi32(four);
  }
  static Sums Start(int32_t) { return _mm256_setzero_si256(); }
  static Sums Dot4(Sums sums, Key k, Query q) {
    const __m256i pairs = _mm256_maddubs_epi16(q, k);
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  static void Store(int32_t* scores, Sums sums) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(scores), sums); }
};

struct Dot : PositiveDot {
  struct Query {
    __m256i value, magnitude;
  };
  static Query LoadQuery(const int8_t* p) {
    const __m256i q = PositiveDot::LoadQuery(p);
    return {q, _mm256_abs_epi8(q)};
  }
  static Sums Dot4(Sums sums, Key k, const Query& q) {
    return PositiveDot::Dot4(sums, _mm256_sign_epi8(k, q.value), q.magnitude);
  }
};

}  // namespace

SHADOW_DEFINE_ESTIMATE(Avx2, Dot, PositiveDot)

}  // namespace shadow
