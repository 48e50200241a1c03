#include <arm_neon.h>

#include "kernels/select/generic.h"

namespace shadow {
namespace {

// order.bytes[m]: byte numbers that bring the lanes in m to the front; the bytes after them are arbitrary.
struct CompressOrder {
  uint8_t bytes[16][16];
};
constexpr CompressOrder MakeCompressOrder() {
  CompressOrder order{};
  for (int m = 0; m < 16; ++m) {
    int count = 0;
    for (int lane = 0; lane < 4; ++lane) {
      if ((m >> lane & 1) == 0) continue;
      for (int byte = 0; byte < 4; ++byte) order.bytes[m][4 * count + byte] = static_cast<uint8_t>(4 * lane + byte);
      ++count;
    }
  }
  return order;
}
constexpr CompressOrder kCompressOrder = MakeCompressOrder();

struct Ints {
  static constexpr int kLanes = 4;
  using V = int32x4_t;
  using M = uint32x4_t;  // lanes of zeros or ones

  static V Load(const int32_t* p) { return vld1q_s32(p); }
  static V Set(int32_t a) { return vdupq_n_s32(a); }
  static V Iota() {
    const int32_t lanes[] = {0, 1, 2, 3};
    return vld1q_s32(lanes);
  }
  static V Add(V a, V b) { return vaddq_s32(a, b); }
  static M Greater(V a, V b) { return vcgtq_s32(a, b); }
  static M GreaterEqual(V a, V b) { return vcgeq_s32(a, b); }
  static M Equal(V a, V b) { return vceqq_s32(a, b); }
  static M AndNot(M a, M b) { return vbicq_u32(a, b); }
  static unsigned Bits(M m) {
    const uint32_t weights[] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(m, vld1q_u32(weights)));
  }
  static int Count(M m) { return -vaddvq_s32(vreinterpretq_s32_u32(m)); }
  static V CountIf(V v, M m) { return vsubq_s32(v, vreinterpretq_s32_u32(m)); }
  static int32_t SumLanes(V v) { return vaddvq_s32(v); }
  static V MinWhere(V v, M m, V w) { return vbslq_s32(m, vminq_s32(v, w), v); }
  static int32_t MinLanes(V v) { return vminvq_s32(v); }
  static int CompressBits(int32_t* p, unsigned bits, V v) {
    const uint8x16_t order = vld1q_u8(kCompressOrder.bytes[bits]);
    vst1q_s32(p, vreinterpretq_s32_u8(vqtbl1q_u8(vreinterpretq_u8_s32(v), order)));
    return __builtin_popcount(bits);
  }
  static int Compress(int32_t* p, M m, V v) { return CompressBits(p, Bits(m), v); }
};

struct Bytes {
  // A byte of ones becomes the bit of its number; three pairwise sums join eight bytes to one.
  static uint64_t Greater(const int8_t* p, int8_t t) {
    const uint8x16_t weights = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
    const int8x16_t level = vdupq_n_s8(t);
    uint8x16_t part[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) part[i] = vandq_u8(vcgtq_s8(vld1q_s8(p + 16 * i), level), weights);
    const uint8x16_t pairs = vpaddq_u8(vpaddq_u8(part[0], part[1]), vpaddq_u8(part[2], part[3]));
    return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(pairs, pairs)), 0);
  }
  static int CountGreater(const int8_t* p, int n, int8_t t) {
    const int8x16_t level = vdupq_n_s8(t);
    uint32x4_t count = vdupq_n_u32(0);
    for (int i = 0; i < n; i += 64) {
      uint8x16_t hits = vdupq_n_u8(0);  // up to 4 a lane
#pragma GCC unroll 4
      for (int j = 0; j < 64; j += 16) hits = vsubq_u8(hits, vcgtq_s8(vld1q_s8(p + i + j), level));
      count = vpadalq_u16(count, vpaddlq_u8(hits));
    }
    return static_cast<int>(vaddvq_u32(count));
  }
  static int32_t* Expand(uint64_t mask, int32_t first, int32_t* p) {
    for (int i = 0; i < 64; i += 4) {
      const unsigned part = static_cast<unsigned>(mask >> i) & 15u;
      p += Ints::CompressBits(p, part, vaddq_s32(Ints::Iota(), vdupq_n_s32(first + i)));
    }
    return p;
  }
};

}  // namespace

SHADOW_DEFINE_SELECT(Neon, Ints, Bytes)

}  // namespace shadow
