// How the sparse kernel divides its scratch memory; what AttendSparseScratchFloats() counts.
#ifndef SHADOWATTN_DELEGATE_KERNELS_ATTEND_SPARSE_SCRATCH_H_
#define SHADOWATTN_DELEGATE_KERNELS_ATTEND_SPARSE_SCRATCH_H_

#include <cstdint>

#include "kernels/layout.h"

namespace shadow {

constexpr int kBlockPages = 4;
constexpr int kSparseBlock = kBlockPages * kPageRows;  // positions

// Every part starts at a multiple of 16 floats.
struct SparseScratch {
  float* block;    // [kSparseBlock][PaddedFloats(d)]: keys, then values, of a block in float32
  float* weights;  // [rows][stride]: scores, then weights exp(score - max), of the selected positions
  float* out;      // [rows][PaddedFloats(d)]: running sum of weight * v
  float* sum;      // [rows]: sum of the weights
  int32_t* ends;   // [blocks][rows]: how many of a row's positions lie in blocks up to this one
  int64_t stride;  // of weights; a block of scores may be stored past the last
  int64_t floats;  // size of it all
};

// A null pointer only measures. Static, as ISA files include this: each keeps its own copy.
static inline SparseScratch DivideSparseScratch(float* begin, int rows, int largest_k, int blocks, int head_dim) {
  SparseScratch s{};
  const auto take = [&](int64_t n) {
    float* part = begin == nullptr ? nullptr : begin + s.floats;
    s.floats += (n + 15) / 16 * 16;
    return part;
  };
  s.stride = (static_cast<int64_t>(largest_k) + 15) / 16 * 16 + 16;
  s.block = take(static_cast<int64_t>(kSparseBlock) * PaddedFloats(head_dim));
  s.weights = take(rows * s.stride);
  s.out = take(static_cast<int64_t>(rows) * PaddedFloats(head_dim));
  s.sum = take(rows);
  static_assert(sizeof(int32_t) == sizeof(float));
  s.ends = reinterpret_cast<int32_t*>(take(static_cast<int64_t>(blocks) * rows));
  return s;
}

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_ATTEND_SPARSE_SCRATCH_H_
