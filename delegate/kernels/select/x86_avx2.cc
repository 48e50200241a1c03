#include "kernels/select/generic.h"
#include "kernels/simd/x86.h"

namespace shadow {
namespace {

// order.lanes[m]: the numbers of the bits of m; the lanes after them are arbitrary.
struct CompressOrder {
  uint8_t lanes[256][8];
};
constexpr CompressOrder MakeCompressOrder() {
  CompressOrder order{};
  for (int m = 0; m < 256; ++m) {
    int count = 0;
    for (int bit = 0; bit < 8; ++bit) {
      if ((m >> bit & 1) != 0) order.lanes[m][count++] = static_cast<uint8_t>(bit);
    }
  }
  return order;
}
constexpr CompressOrder kCompressOrder = MakeCompressOrder();

struct Ints {
  static constexpr int kLanes = 8;
  using V = __m256i;
  using M = __m256i;  // lanes of zeros or ones

  static V Load(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static V Set(int32_t a) { return _mm256_set1_epi32(a); }
  static V Iota() { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
  static V Add(V a, V b) { return _mm256_add_epi32(a, b); }
  static M Greater(V a, V b) { return _mm256_cmpgt_epi32(a, b); }
  static M GreaterEqual(V a, V b) { return _mm256_xor_si256(Greater(b, a), _mm256_set1_epi32(-1)); }
  static M Equal(V a, V b) { return _mm256_cmpeq_epi32(a, b); }
  static M AndNot(M a, M b) { return _mm256_andnot_si256(b, a); }
  static unsigned Bits(M m) { return static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(m))); }
  static int Count(M m) { return _mm_popcnt_u32(Bits(m)); }
  static V CountIf(V v, M m) { return _mm256_sub_epi32(v, m); }
  static int32_t SumLanes(V v) {
    const __m128i half = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    const __m128i pair = _mm_add_epi32(half, _mm_unpackhi_epi64(half, half));
    return _mm_cvtsi128_si32(_mm_add_epi32(pair, _mm_shuffle_epi32(pair, 1)));
  }
  static V MinWhere(V v, M m, V w) { return _mm256_blendv_epi8(v, _mm256_min_epi32(v, w), m); }
  static int32_t MinLanes(V v) {
    const __m128i half = _mm_min_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    const __m128i pair = _mm_min_epi32(half, _mm_unpackhi_epi64(half, half));
    return _mm_cvtsi128_si32(_mm_min_epi32(pair, _mm_shuffle_epi32(pair, 1)));
  }
  static int CompressBits(int32_t* p, unsigned bits, V v) {
    const __m128i lanes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(kCompressOrder.lanes[bits]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permutevar8x32_epi32(v, _mm256_cvtepu8_epi32(lanes)));
    return _mm_popcnt_u32(bits);
  }
  static int Compress(int32_t* p, M m, V v) { return CompressBits(p, Bits(m), v); }
};

struct Bytes {
  static uint64_t Greater32(const int8_t* p, __m256i t) {
    const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_cmpgt_epi8(v, t)));
  }
  static uint64_t Greater(const int8_t* p, int8_t t) {
    const __m256i lanes = _mm256_set1_epi8(t);
    return Greater32(p, lanes) | Greater32(p + 32, lanes) << 32;
  }
  static int CountGreater(const int8_t* p, int n, int8_t t) {
    int64_t count = 0;
    for (int i = 0; i < n; i += 64) count += _mm_popcnt_u64(Greater(p + i, t));
    return static_cast<int>(count);
  }
  static int32_t* Expand(uint64_t mask, int32_t first, int32_t* p) {
    for (int i = 0; i < 64; i += 8) {
      const unsigned part = static_cast<unsigned>(mask >> i) & 255u;
      p += Ints::CompressBits(p, part, _mm256_add_epi32(Ints::Iota(), _mm256_set1_epi32(first + i)));
    }
    return p;
  }
};

}  // namespace

SHADOW_DEFINE_SELECT(Avx2, Ints, Bytes)

}  // namespace shadow
