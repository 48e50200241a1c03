// The pv_int8 kernels over a float vector type F (kernels/simd/) and a cache element type T (float, or uint16_t for
// FP16). Only ISA files include this.
#ifndef SHADOWATTN_DELEGATE_KERNELS_PV_INT8_GENERIC_H_
#define SHADOWATTN_DELEGATE_KERNELS_PV_INT8_GENERIC_H_

#include <cfloat>
#include <cstdint>
#include <cstring>

#include "kernels/layout.h"
#include "kernels/pv_int8/kernels.h"

namespace shadow {

template <class F, class T>
void LargestValues(const T* v, int head_dim, float* largest) {
  const int padded = PaddedFloats(head_dim);
  for (int c = 0; c < padded; c += F::kLanes) {
    typename F::V magnitude = F::Set(0);
    for (int i = 0; i < kPageRows; ++i) magnitude = F::Max(magnitude, F::Abs(F::Load(v + i * padded + c)));
    F::Store(largest + c, magnitude);
  }
}

// kLanes channels of four positions; rows are `padded` elements apart.
template <class F, class T>
void PackFour(const T* v, int padded, typename F::V inverse, uint8_t* out) {
  int8_t rows[4][F::kLanes];
  for (int i = 0; i < 4; ++i) {
    const typename F::V scaled = F::Mul(F::Load(v + i * padded), inverse);
    F::StoreRounded(rows[i], F::Max(F::Min(scaled, F::Set(127)), F::Set(-127)));
  }
  for (int c = 0; c < F::kLanes; ++c) {
    for (int i = 0; i < 4; ++i) out[c * 4 + i] = static_cast<uint8_t>(rows[i][c] + 128);
  }
}

template <class F, class T>
void PackValues(const T* v, int head_dim, const float* inverse, uint8_t* v_u8) {
  const int padded = PaddedFloats(head_dim);
  constexpr int kBlock = kPackedChannels * kPageRows;  // bytes
  if (padded % kPackedChannels != 0) std::memset(v_u8 + padded / kPackedChannels * kBlock, 128, kBlock);
  for (int c = 0; c < padded; c += F::kLanes) {
    const typename F::V factor = F::Load(inverse + c);
    uint8_t* out = v_u8 + c / kPackedChannels * kBlock + c % kPackedChannels * 4;
    for (int i = 0; i < kPageRows; i += 4, out += kPackedChannels * 4) {
      PackFour<F>(v + i * padded + c, padded, factor, out);
    }
  }
}

// One page of a row; returns its step.
template <class F>
float QuantizeWeightPage(const float* weights, int8_t* out) {
  typename F::V lanes = F::Load(weights);
  for (int j = F::kLanes; j < kPageRows; j += F::kLanes) lanes = F::Max(lanes, F::Load(weights + j));
  const float largest = F::MaxLanes(lanes), inverse = 127.0f / largest;
  if (!(inverse <= FLT_MAX)) {  // all weights are 0, or so small that the quotient overflows
    std::memset(out, 0, kPageRows);
    return 0.0f;
  }
#pragma GCC unroll 4
  for (int j = 0; j < kPageRows; j += F::kLanes) {
    F::StoreRounded(out + j, F::Mul(F::Load(weights + j), F::Set(inverse)));
  }
  return largest / 127.0f;
}

template <class F>
void QuantizeWeights(const WeightPages& job) {
  for (int page = 0; page < job.pages; ++page) {
    const int64_t i = page * job.rows + job.row;
    job.steps[i] = QuantizeWeightPage<F>(job.weights + page * job.page_stride, job.out + i * kPageRows);
  }
}

template <class F>
void AddProducts(const ScaledProducts& job) {
  for (int r = 0; r < job.rows; ++r) {
    const typename F::V step = F::Set(job.weight_steps[r]);
    const int32_t* products = job.products + static_cast<int64_t>(r) * kPackedChannels;
    float* sums = job.sums + r * job.stride;
    for (int c = 0; c < job.channels; c += F::kLanes) {
      const typename F::V scale = F::Mul(step, F::Load(job.value_steps + c));
      F::Store(sums + c, F::Add(F::Load(sums + c), F::Mul(F::LoadBelow(products + c, 0), scale)));
    }
  }
}

// type: F32 or F16; T: the element that a page stores.
#define SHADOW_DEFINE_PV_INT8_TYPE(name, F, type, T)                                       \
  void LargestValues##type##name(const void* v, int d, float* largest) {                   \
    LargestValues<F>(static_cast<const T*>(v), d, largest);                                \
  }                                                                                        \
  void PackValues##type##name(const void* v, int d, const float* inverse, uint8_t* v_u8) { \
    PackValues<F>(static_cast<const T*>(v), d, inverse, v_u8);                             \
  }

// Defines the kernels of one ISA.
#define SHADOW_DEFINE_PV_INT8(name, F)                                            \
  SHADOW_DEFINE_PV_INT8_TYPE(name, F, F32, float)                                 \
  SHADOW_DEFINE_PV_INT8_TYPE(name, F, F16, uint16_t)                              \
  void QuantizeWeights##name(const WeightPages& job) { QuantizeWeights<F>(job); } \
  void AddProducts##name(const ScaledProducts& job) { AddProducts<F>(job); }

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_PV_INT8_GENERIC_H_
