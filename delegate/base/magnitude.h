// The largest magnitude among floats, by their bits: those of non-negative floats are ordered as the floats are, and
// NaN comes last. Compilers turn this into vector instructions, which a comparison of floats does not allow.
#ifndef SHADOWATTN_DELEGATE_BASE_MAGNITUDE_H_
#define SHADOWATTN_DELEGATE_BASE_MAGNITUDE_H_

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace shadow {

inline int32_t LargestMagnitudeBits(const float* values, int64_t count) {
  int32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    int32_t bits;
    std::memcpy(&bits, values + i, sizeof(bits));
    largest = std::max(largest, bits & 0x7FFFFFFF);
  }
  return largest;
}

// Whether any magnitude has at least these bits. Cheaper than the largest: a difference's sign tells.
inline bool AnyMagnitudeFrom(int32_t bits, const float* values, int64_t count) {
  int32_t signs = 0;
  for (int64_t i = 0; i < count; ++i) {
    int32_t of_value;
    std::memcpy(&of_value, values + i, sizeof(of_value));
    signs |= (bits - 1) - (of_value & 0x7FFFFFFF);
  }
  return signs < 0;
}

inline float LargestMagnitude(const float* values, int64_t count) {
  const int32_t bits = LargestMagnitudeBits(values, count);
  float largest;
  std::memcpy(&largest, &bits, sizeof(largest));
  return largest;
}

// Of one or more. A plain loop, which compilers turn into vector instructions as they do not std::max_element.
template <typename Int>
Int Largest(const Int* values, int64_t count) {
  Int largest = values[0];
  for (int64_t i = 1; i < count; ++i) largest = std::max(largest, values[i]);
  return largest;
}

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_BASE_MAGNITUDE_H_
