// A cache of random keys and values in pages, and the same numbers in float64, for attend's test and benchmark.
#ifndef SHADOWATTN_DELEGATE_KERNELS_ATTEND_TEST_CACHE_H_
#define SHADOWATTN_DELEGATE_KERNELS_ATTEND_TEST_CACHE_H_

#include <cmath>
#include <cstring>

#include "kernels/layout.h"
#include "kernels/testing.h"

namespace shadow::testing {

// IEEE binary16 by the definition, one value at a time.
inline double SlowFromFp16(uint16_t fp16) {
  const int exponent = fp16 >> 10 & 31, fraction = fp16 & 1023;
  double value = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  if (exponent == 31) value = fraction == 0 ? HUGE_VAL : std::nan("");
  return (fp16 & 0x8000) != 0 ? -value : value;
}

// The nearest finite FP16 number, of two the even one; from the midpoint above the largest on, infinity.
inline uint16_t SlowToFp16(double x) {
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  const double magnitude = std::fabs(x);
  if (magnitude >= 65520.0) return static_cast<uint16_t>(sign | 0x7c00);
  uint16_t low = 0, high = 0x7bff;  // FP16 numbers are ordered like their bits
  while (low < high) {              // find the largest that is not above
    const uint16_t middle = static_cast<uint16_t>((low + high + 1) / 2);
    if (SlowFromFp16(middle) <= magnitude) {
      low = middle;
    } else {
      high = static_cast<uint16_t>(middle - 1);
    }
  }
  if (low == 0x7bff) return static_cast<uint16_t>(sign | low);
  const double below = magnitude - SlowFromFp16(low), above = SlowFromFp16(static_cast<uint16_t>(low + 1)) - magnitude;
  if (below > above || (below == above && (low & 1) != 0)) ++low;
  return static_cast<uint16_t>(sign | low);
}

struct TestCache {
  TestCache(int positions, int d, CacheType cache_type, float spread) : n(positions), head_dim(d), type(cache_type) {
    const size_t count = static_cast<size_t>((n + kPageRows - 1) / kPageRows);
    const size_t bytes = static_cast<size_t>(kPageRows * PaddedFloats(d)) * ElementBytes(type);
    storage.resize(2 * count * bytes);
    for (size_t i = 0; i < count; ++i) {
      pages.push_back({storage.data() + 2 * i * bytes, storage.data() + (2 * i + 1) * bytes, nullptr, nullptr});
    }
    k.resize(static_cast<size_t>(n * d));
    v.resize(static_cast<size_t>(n * d));
    for (int p = 0; p < n; ++p) {
      for (int c = 0; c < d; ++c) {
        const size_t i = static_cast<size_t>(p * d + c);
        k[i] = Put(pages[static_cast<size_t>(p / kPageRows)].k, p, c, RandomNormal() * spread);
        v[i] = Put(pages[static_cast<size_t>(p / kPageRows)].v, p, c, RandomNormal());
      }
    }
  }

  KvView view() const { return {pages.data(), head_dim, type}; }

  // Stores the value, returns what was stored.
  double Put(void* page, int p, int c, float value) const {
    const size_t i = static_cast<size_t>(p % kPageRows * PaddedFloats(head_dim) + c);
    if (type == CacheType::kFloat32) {
      static_cast<float*>(page)[i] = value;
      return static_cast<double>(value);
    }
    const uint16_t fp16 = SlowToFp16(static_cast<double>(value));
    static_cast<uint16_t*>(page)[i] = fp16;
    return SlowFromFp16(fp16);
  }

  int n, head_dim;
  CacheType type;
  AlignedVector<char> storage;
  std::vector<KvPage> pages;
  std::vector<double> k, v;
};

}  // namespace shadow::testing

#endif  // SHADOWATTN_DELEGATE_KERNELS_ATTEND_TEST_CACHE_H_
