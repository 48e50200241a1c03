#include "kernels/select/generic.h"
#include "kernels/simd/x86.h"

namespace shadow {
namespace {

struct Ints {
  static constexpr int kLanes = 16;
  using V = __m512i;
  using M = __mmask16;

  static V Load(const int32_t* p) { return _mm512_loadu_si512(p); }
  static V Set(int32_t a) { return _mm512_set1_epi32(a); }
  static V Iota() { return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }
  static V Add(V a, V b) { return _mm512_add_epi32(a, b); }
  static M Greater(V a, V b) { return _mm512_cmpgt_epi32_mask(a, b); }
  static M GreaterEqual(V a, V b) { return _mm512_cmpge_epi32_mask(a, b); }
  static M Equal(V a, V b) { return _mm512_cmpeq_epi32_mask(a, b); }
  static M AndNot(M a, M b) { return _kandn_mask16(b, a); }
  static int Count(M m) { return _mm_popcnt_u32(m); }
  static V CountIf(V v, M m) { return _mm512_mask_sub_epi32(v, m, v, _mm512_set1_epi32(-1)); }
  static int32_t SumLanes(V v) { return _mm512_reduce_add_epi32(v); }
  static V MinWhere(V v, M m, V w) { return _mm512_mask_min_epi32(v, m, v, w); }
  static int32_t MinLanes(V v) { return _mm512_reduce_min_epi32(v); }
  // Compresses in a register and stores the whole vector: the compressing store is slow on Zen 4.
  static int Compress(int32_t* p, M m, V v) {
    _mm512_storeu_si512(p, _mm512_maskz_compress_epi32(m, v));
    return Count(m);
  }
};

struct Bytes {
  static uint64_t Greater(const int8_t* p, int8_t t) {
    return _mm512_cmpgt_epi8_mask(_mm512_loadu_si512(p), _mm512_set1_epi8(t));
  }
  static int CountGreater(const int8_t* p, int n, int8_t t) {
    int64_t count = 0;
    for (int i = 0; i < n; i += 64) count += _mm_popcnt_u64(Greater(p + i, t));
    return static_cast<int>(count);
  }
  static int32_t* Expand(uint64_t mask, int32_t first, int32_t* p) {
    for (int i = 0; i < 64; i += 16) {
      const __mmask16 part = static_cast<__mmask16>(mask >> i);
      p += Ints::Compress(p, part, _mm512_add_epi32(Ints::Iota(), _mm512_set1_epi32(first + i)));
    }
    return p;
  }
};

}  // namespace

SHADOW_DEFINE_SELECT(Avx512, Ints, Bytes)

}  // namespace shadow
