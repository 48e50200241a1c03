// The parts of the dense kernel's scratch memory.
#ifndef SHADOWATTN_DELEGATE_KERNELS_ATTEND_DENSE_SCRATCH_H_
#define SHADOWATTN_DELEGATE_KERNELS_ATTEND_DENSE_SCRATCH_H_

#include <cstdint>

#include "kernels/layout.h"

namespace shadow {

inline constexpr int kMaxRowBlock = 8;  // most query rows of an ISA's register tile

// Every part starts at a multiple of 16 floats.
struct DenseScratch {
  float* k_transposed;  // [PaddedFloats(d)][64]: channels of the page's keys, keys in the lanes
  float* v;             // [64][PaddedFloats(d)]: values of the page in float32
  float* weights;       // [kMaxRowBlock][64]: scores, then weights exp(score - max), of the rows in the register tile
  float* out;           // [rows][PaddedFloats(d)]: running sum of weight * v
  float* max;           // [rows]: running maximum of the scores
  float* sum;           // [rows]: running sum of the weights
  int64_t floats;       // size of all parts
};

// With a null pointer it only counts. Static, because ISA files include this header and each needs its own copy.
static inline DenseScratch DivideScratch(float* begin, int rows, int head_dim) {
  DenseScratch s{};
  const auto take = [&](int64_t n) {
    float* part = begin == nullptr ? nullptr : begin + s.floats;
    s.floats += (n + 15) / 16 * 16;
    return part;
  };
  const int64_t page = static_cast<int64_t>(kPageRows) * PaddedFloats(head_dim);
  s.k_transposed = take(page);
  s.v = take(page);
  s.weights = take(static_cast<int64_t>(kMaxRowBlock) * kPageRows);
  s.out = take(static_cast<int64_t>(rows) * PaddedFloats(head_dim));
  s.max = take(rows);
  s.sum = take(rows);
  return s;
}

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_ATTEND_DENSE_SCRATCH_H_
