// Without dot product instructions: widening products, then a pairwise sum into 32 bits.
#include <arm_neon.h>

#include "kernels/estimate/generic.h"

namespace shadow {
namespace {

struct Dot {
  static constexpr bool kUsesSum = false;
  static constexpr int kRows = 4;
  static constexpr int kVecs = 2;
  static constexpr int kKeys = 4;
  using Key = int8x16_t;
  using Query = int8x16_t;
  struct Sums {  // two partial sums for each key: `first` of the first two keys, `last` of the last two
    int32x4_t first, last;
  };

  static Key LoadKey(const uint8_t* p) { return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(p), vdupq_n_u8(128))); }
  static Query LoadQuery(const int8_t* p) {
    int32_t four;
    __builtin_memcpy(&four, p, sizeof(four));
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
  }
  static Sums Start(int32_t) { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
  static Sums Dot4(Sums sums, Key k, Query q) {
    return {vpadalq_s16(sums.first, vmull_s8(vget_low_s8(k), vget_low_s8(q))),
            vpadalq_s16(sums.last, vmull_high_s8(k, q))};
  }
  static void Store(int32_t* scores, Sums sums) { vst1q_s32(scores, vpaddq_s32(sums.first, sums.last)); }
};

}  // namespace

SHADOW_DEFINE_ESTIMATE(Neon, Dot, Dot)

}  // namespace shadow
