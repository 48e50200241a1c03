#include "kernels/estimate/generic.h"

namespace shadow {
namespace {

struct Dot {
  static constexpr bool kUsesSum = false;
  static constexpr int kRows = 1;
  static constexpr int kVecs = 8;
  static constexpr int kKeys = 1;
  struct Key {
    int8_t x[4];
  };
  struct Query {
    int8_t x[4];
  };
  using Sums = int32_t;

  static Key LoadKey(const uint8_t* p) {
    return {{static_cast<int8_t>(p[0] - 128), static_cast<int8_t>(p[1] - 128), static_cast<int8_t>(p[2] - 128),
             static_cast<int8_t>(p[3] - 128)}};
  }
  static Query LoadQuery(const int8_t* p) { return {{p[0], p[1], p[2], p[3]}}; }
  static Sums Start(int32_t) { return 0; }
  static Sums Dot4(Sums sums, Key k, Query q) {
    return sums + k.x[0] * q.x[0] + k.x[1] * q.x[1] + k.x[2] * q.x[2] + k.x[3] * q.x[3];
  }
  static void Store(int32_t* scores, Sums sums) { *scores = sums; }
};

}  // namespace

SHADOW_DEFINE_ESTIMATE(Scalar, Dot, Dot)

}  // namespace shadow
