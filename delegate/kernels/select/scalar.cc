#include "kernels/select/generic.h"

namespace shadow {
namespace {

struct Ints {
  static constexpr int kLanes = 1;
  using V = int32_t;
  using M = bool;

  static V Load(const int32_t* p) { return *p; }
  static V Set(int32_t a) { return a; }
  static V Iota() { return 0; }
  static V Add(V a, V b) { return a + b; }
  static M Greater(V a, V b) { return a > b; }
  static M GreaterEqual(V a, V b) { return a >= b; }
  static M Equal(V a, V b) { return a == b; }
  static M AndNot(M a, M b) { return a && !b; }
  static int Count(M m) { return m; }
  static V CountIf(V v, M m) { return v + m; }
  static int32_t SumLanes(V v) { return v; }
  static V MinWhere(V v, M m, V w) { return m && w < v ? w : v; }
  static int32_t MinLanes(V v) { return v; }
  static int Compress(int32_t* p, M m, V v) {
    *p = v;
    return m;
  }
};

struct Bytes {
  static uint64_t Greater(const int8_t* p, int8_t t) {
    uint64_t mask = 0;
    for (int i = 0; i < 64; ++i) mask |= static_cast<uint64_t>(p[i] > t) << i;
    return mask;
  }
  static int CountGreater(const int8_t* p, int n, int8_t t) {
    int count = 0;
    for (int i = 0; i < n; ++i) count += p[i] > t;
    return count;
  }
  static int32_t* Expand(uint64_t mask, int32_t first, int32_t* p) {
    for (; mask != 0; mask &= mask - 1) *p++ = first + __builtin_ctzll(mask);
    return p;
  }
};

}  // namespace

SHADOW_DEFINE_SELECT(Scalar, Ints, Bytes)

}  // namespace shadow
