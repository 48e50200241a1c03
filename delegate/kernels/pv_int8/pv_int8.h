// P.V in INT8 (mode int8): softmax weights and values become integers, and the int32 products become floats again. The
// estimate kernel computes the products themselves, with weights in the place of queries and 64 channels in the place
// of keys. docs/algorithm.md, mode int8. Attention in INT8: SageAttention (arXiv 2410.02367); docs/related_work.md says
// in what this differs.
//
// The float32 operations are separate and their order does not depend on the vector width: the same bits on every ISA.
#ifndef SHADOWATTN_DELEGATE_KERNELS_PV_INT8_PV_INT8_H_
#define SHADOWATTN_DELEGATE_KERNELS_PV_INT8_PV_INT8_H_

#include <cstdint>

#include "kernels/arch.h"
#include "kernels/layout.h"

namespace shadow {

// INT8 values of a page, + 128: [blocks of 64 channels][64 / 4][64][4], four positions of one channel together. To the
// estimate kernel a block is a page of 64 keys (the channels) with a head dim of 64 (the positions).
inline constexpr int kPackedChannels = 64;
static constexpr int PackedValueBlocks(int head_dim) { return (head_dim + kPackedChannels - 1) / kPackedChannels; }
static constexpr int PackedValueBytes(int head_dim) {
  return PackedValueBlocks(head_dim) * kPackedChannels * kPageRows;
}

// largest[c] = max |v| of channel c over the 64 rows of a page; [PaddedFloats(d)].
using LargestValuesFn = void (*)(const void* v, int head_dim, float* largest);
LargestValuesFn GetLargestValuesKernel(ArchFlags arch, CacheType type);

// v_u8 = clamp(rint(v * inverse[c]), -127, 127) + 128 in the layout above; channels from d on are 128. inverse
// [PaddedFloats(d)], zero from d on.
using PackValuesFn = void (*)(const void* v, int head_dim, const float* inverse, uint8_t* v_u8);
PackValuesFn GetPackValuesKernel(ArchFlags arch, CacheType type);

// The softmax weights of one row as integers 0 .. 127, page by page: rint(w * (127 / largest weight of the page)),
// zeros where that quotient overflows. Page b goes to out[(b * rows + row) * 64 ...] and its step, largest / 127, to
// steps[b * rows + row].
struct WeightPages {
  const float* weights;  // of the first page, [64], >= 0, 64-byte aligned
  int64_t page_stride;   // floats from one page to the next; may be negative
  int pages;
  int8_t* out;
  float* steps;
  int64_t rows;
  int64_t row;
};
using QuantizeWeightsFn = void (*)(const WeightPages& job);
QuantizeWeightsFn GetQuantizeWeightsKernel(ArchFlags arch);

// sums[r * stride + c] += products[r * 64 + c] * (weight_steps[r] * value_steps[c]), r in [0, rows), c in
// [0, channels); channels <= 64 is a multiple of 16. Products are below 2^24 in magnitude.
struct ScaledProducts {
  const int32_t* products;
  int rows;
  int channels;
  const float* weight_steps;
  const float* value_steps;
  float* sums;
  int64_t stride;
};
using AddProductsFn = void (*)(const ScaledProducts& job);
AddProductsFn GetAddProductsKernel(ArchFlags arch);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_PV_INT8_PV_INT8_H_
