// sdot: four products of int8 by int8, summed exactly into an int32.
#include <arm_neon.h>

#include "kernels/estimate/generic.h"

namespace shadow {
namespace {

struct Dot {
  static constexpr bool kUsesSum = false;
  static constexpr int kRows = 6;
  static constexpr int kVecs = 4;
  static constexpr int kKeys = 4;
  using Key = int8x16_t;
  using Query = int8x16_t;
  using Sums = int32x4_t;

  static Key LoadKey(const uint8_t* p) { return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(p), vdupq_n_u8(128))); }
  static Query LoadQuery(const int8_t* p) {
    int32_t four;
    __builtin_memcpy(&four, p, sizeof(four));
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
  }
  static Sums Start(int32_t) { return vdupq_n_s32(0); }
  static Sums Dot4(Sums sums, Key k, Query q) { return vdotq_s32(sums, k, q); }
  static void Store(int32_t* scores, Sums sums) { vst1q_s32(scores, sums); }
};

}  // namespace

SHADOW_DEFINE_ESTIMATE(NeonDot, Dot, Dot)

}  // namespace shadow
