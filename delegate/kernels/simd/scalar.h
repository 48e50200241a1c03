// The float vector of the generic kernels, in portable code. The other headers of this folder define the same type for
// one instruction set each, in a namespace of their own, so that the linker can never merge a template that uses it
// with one compiled for another machine. Only ISA files include those.
#ifndef SHADOWATTN_DELEGATE_KERNELS_SIMD_SCALAR_H_
#define SHADOWATTN_DELEGATE_KERNELS_SIMD_SCALAR_H_

#include <cstdint>
#include <cstring>

#include "kernels/fp16.h"

namespace shadow::scalar {

struct Floats {
  static constexpr int kLanes = 4;       // an array that the compiler may keep in whatever vectors it has
  static constexpr int kRowBlock = 2;    // register tile of the dense kernel: query rows,
  static constexpr int kVecBlock = 2;    // times vectors of keys or channels
  static constexpr int kGatherVecs = 2;  // vectors of channels per pass over selected values; two accumulators of each
  struct V {
    float x[kLanes];
  };

  template <class Function>
  static V Map(Function f) {
    V r;
    for (int i = 0; i < kLanes; ++i) r.x[i] = f(i);
    return r;
  }

  static V Set(float a) {
    return Map([=](int) { return a; });
  }
  static V Load(const float* p) {
    return Map([=](int i) { return p[i]; });
  }
  static V Load(const uint16_t* p) {
    return Map([=](int i) { return FloatFromFp16(p[i]); });
  }
  static void Store(float* p, V a) {
    for (int i = 0; i < kLanes; ++i) p[i] = a.x[i];
  }
  static void Store(uint16_t* p, V a) {
    for (int i = 0; i < kLanes; ++i) p[i] = Fp16FromFloat(a.x[i]);
  }
  // For integral values within [-127, 127].
  static void Store(int8_t* p, V a) {
    for (int i = 0; i < kLanes; ++i) p[i] = static_cast<int8_t>(a.x[i]);
  }
  // Rounds half to even; for values within [-127, 127].
  static void StoreRounded(int8_t* p, V a) { Store(p, Round(a)); }

  static V Add(V a, V b) {
    return Map([&](int i) { return a.x[i] + b.x[i]; });
  }
  static V Sub(V a, V b) {
    return Map([&](int i) { return a.x[i] - b.x[i]; });
  }
  static V Mul(V a, V b) {
    return Map([&](int i) { return a.x[i] * b.x[i]; });
  }
  // a * b + c, fused where the machine can.
  static V MulAdd(V a, V b, V c) {
    return Map([&](int i) { return a.x[i] * b.x[i] + c.x[i]; });
  }
  // a * b + c, rounded once.
  static V Fused(V a, V b, V c) {
    return Map([&](int i) { return __builtin_fmaf(a.x[i], b.x[i], c.x[i]); });
  }
  static V Max(V a, V b) {
    return Map([&](int i) { return a.x[i] > b.x[i] ? a.x[i] : b.x[i]; });
  }
  static V Min(V a, V b) {
    return Map([&](int i) { return a.x[i] < b.x[i] ? a.x[i] : b.x[i]; });
  }
  static V Abs(V a) {
    return Map([&](int i) { return a.x[i] < 0 ? -a.x[i] : a.x[i]; });
  }
  // Rounds half to even, for |a| < 2^22: there the last bit of a + 1.5 * 2^23 is worth 1.
  static V Round(V a) {
    return Map([&](int i) { return (a.x[i] + 12582912.0f) - 12582912.0f; });
  }
  // a * 2^n for integral n <= 127; zero for n <= -127.
  static V Ldexp(V a, V n) {
    return Map([&](int i) {
      const int exponent = static_cast<int>(n.x[i]) + 127;
      return a.x[i] * FloatFromBits(static_cast<uint32_t>(exponent < 0 ? 0 : exponent) << 23);
    });
  }
  // a - floor(a), exact for a >= 0. For -1 < a < 0 it is 1 + a, rounded; AVX-512 rounds it down.
  static V Fraction(V a) {
    return Map([&](int i) { return a.x[i] - __builtin_floorf(a.x[i]); });
  }
  // a * 2^(floor(n) - 64) / kScaleUnit for a in about kScaleUnit * [1, 2). Infinite from 2^128 on, and zero below
  // 2^-126 while FlushSubnormals is alive: a subnormal weight would make every product a hundred times slower.
  static constexpr float kScaleUnit = 1;
  static V Scale(V a, V n) {
    return Map([&](int i) {
      const float floor = __builtin_floorf(n.x[i]) - 64, bounded = floor < -127 ? -127 : floor > 128 ? 128 : floor;
      return a.x[i] * FloatFromBits(static_cast<uint32_t>(static_cast<int>(bounded) + 127) << 23);
    });
  }
  struct FlushSubnormals {
    FlushSubnormals() {}
  };

  // Scores minus `largest`, exactly.
  static V LoadBelow(const int32_t* p, int32_t largest) {
    return Map([=](int i) { return static_cast<float>(p[i] - largest); });
  }
  static V LoadBelow(const int8_t* p, int8_t largest) {
    return Map([=](int i) { return static_cast<float>(p[i] - largest); });
  }

  // Bit i: lane i.
  static uint32_t MaskGreaterEqual(V a, V b) {
    uint32_t mask = 0;
    for (int i = 0; i < kLanes; ++i) mask |= (a.x[i] >= b.x[i] ? 1u : 0u) << i;
    return mask;
  }
  static V ZeroWhere(uint32_t mask, V a) {
    return Map([&](int i) { return (mask >> i & 1u) != 0 ? 0.0f : a.x[i]; });
  }

  // Whether there is Compress(values, mask, first, indices, out): it appends those of 64 values whose bit in mask is 1,
  // and `first` plus their indices; it returns how many and may write kLanes elements more.
  static constexpr bool kCompresses = false;

  // Whether the ISA has FP16 arithmetic. Then there are kFp16Lanes = 2 * kLanes lanes in an Fp16V, LoadFp16, SetPair
  // (one number, twice), MulFp16, MulAddFp16 (a * b + c, rounded once), AddFp16; Low and High: kLanes of them in
  // float32; StorePairs: each of kLanes floats in FP16, twice; kFp16Vecs: FP16 vectors per pass over selected values.
  static constexpr bool kHasFp16 = false;

  // Number of the kLanes integers that are below the limit.
  static int CountLess(const int32_t* p, int32_t limit) {
    int count = 0;
    for (int i = 0; i < kLanes; ++i) count += p[i] < limit ? 1 : 0;
    return count;
  }

  static float SumLanes(V a) { return (a.x[0] + a.x[2]) + (a.x[1] + a.x[3]); }
  static float MaxLanes(V a) {
    float m = a.x[0];
    for (int i = 1; i < kLanes; ++i) m = a.x[i] > m ? a.x[i] : m;
    return m;
  }
  static bool AnyNan(V a) {
    bool any = false;
    for (int i = 0; i < kLanes; ++i) any |= a.x[i] != a.x[i];
    return any;
  }
  static int CountGreaterEqual(V a, V b) {
    int count = 0;
    for (int i = 0; i < kLanes; ++i) count += a.x[i] >= b.x[i];
    return count;
  }
  // Lane i of the result is the sum of the lanes of a[i]. All ISAs add in one order: four lanes as SumLanes does, then
  // the fours pairwise.
  static V SumEach(const V (&a)[kLanes]) {
    return Map([&](int i) { return SumLanes(a[i]); });
  }
  static void Transpose(V (&a)[kLanes]) {
    for (int i = 0; i < kLanes; ++i) {
      for (int j = 0; j < i; ++j) {
        const float t = a[i].x[j];
        a[i].x[j] = a[j].x[i];
        a[j].x[i] = t;
      }
    }
  }
};

// The int32 vector with the same number of lanes.
struct Ints {
  static constexpr int kLanes = Floats::kLanes;
  struct V {
    int32_t x[kLanes];
  };

  static V Set(int32_t a) {
    V r;
    for (int i = 0; i < kLanes; ++i) r.x[i] = a;
    return r;
  }
  static V Load(const int32_t* p) {
    V r;
    std::memcpy(r.x, p, sizeof(r.x));
    return r;
  }
  static V Max(V a, V b) {
    for (int i = 0; i < kLanes; ++i) a.x[i] = a.x[i] > b.x[i] ? a.x[i] : b.x[i];
    return a;
  }
  static int32_t MaxLanes(V a) {
    int32_t m = a.x[0];
    for (int i = 1; i < kLanes; ++i) m = a.x[i] > m ? a.x[i] : m;
    return m;
  }

  // sum + addend in lanes where a < b, else sum; sum is not -0.
  static Floats::V AddWhereLess(Floats::V sum, V a, V b, Floats::V addend) {
    return Floats::Map([&](int i) { return sum.x[i] + (a.x[i] < b.x[i] ? addend.x[i] : 0.0f); });
  }

  // Bit i: whether p[i] < limit, i in [0, 64).
  static uint64_t MaskLess64(const int32_t* p, int32_t limit) {
    uint8_t less[64];  // compilers vectorise this loop, but not one that shifts bits together
    for (int i = 0; i < 64; ++i) less[i] = p[i] < limit ? 1 : 0;
    uint64_t bits = 0;
    for (int i = 0; i < 64; i += 8) {
      uint64_t eight;
      std::memcpy(&eight, less + i, sizeof(eight));
      bits |= (eight * 0x0102040810204080u >> 56) << i;  // the lowest bits of eight bytes, side by side
    }
    return bits;
  }

  // Whether there is Expand(mask, places): it writes the indices of the bits that are 1, returns how many and may write
  // kLanes elements more.
  static constexpr bool kExpands = false;
};

}  // namespace shadow::scalar

#endif  // SHADOWATTN_DELEGATE_KERNELS_SIMD_SCALAR_H_
