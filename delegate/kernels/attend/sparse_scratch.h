// The parts of the scratch memory of sparse attention; SparseScratchFloats() returns their size.
#ifndef SHADOWATTN_DELEGATE_KERNELS_ATTEND_SPARSE_SCRATCH_H_
#define SHADOWATTN_DELEGATE_KERNELS_ATTEND_SPARSE_SCRATCH_H_

#include <cstdint>

#include "kernels/layout.h"

namespace shadow {

constexpr int kBlockPages = 4;
constexpr int kSparseBlock = kBlockPages * kPageRows;  // positions

// Every part starts at a multiple of 16 floats.
struct SparseScratch {
  float* block;     // [kSparseBlock][PaddedFloats(d)]: keys or values of a block in float32
  int32_t* begins;  // [rows]: number of a row's positions that lie in the blocks so far
  int64_t floats;   // size of all parts
};

// With a null pointer it only counts. Static, because ISA files include this header and each needs its own copy.
static inline SparseScratch DivideSparseScratch(float* begin, int rows, int head_dim) {
  SparseScratch s{};
  const auto take = [&](int64_t n) {
    float* part = begin == nullptr ? nullptr : begin + s.floats;
    s.floats += (n + 15) / 16 * 16;
    return part;
  };
  s.block = take(static_cast<int64_t>(kSparseBlock) * PaddedFloats(head_dim));
  static_assert(sizeof(int32_t) == sizeof(float));
  s.begins = reinterpret_cast<int32_t*>(take(rows));
  return s;
}

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_ATTEND_SPARSE_SCRATCH_H_
