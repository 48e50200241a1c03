// Defines the attend kernels of one ISA from its float vector type (kernels/simd/). Only ISA files include this.
#ifndef SHADOWATTN_DELEGATE_KERNELS_ATTEND_GENERIC_H_
#define SHADOWATTN_DELEGATE_KERNELS_ATTEND_GENERIC_H_

#include <cstring>

#include "kernels/attend/generic_dense.h"
#include "kernels/attend/generic_sparse.h"

namespace shadow {

template <class F, class T>
void StoreRow(const float* src, int d, T* dst) {
  int c = 0;
  for (; c + F::kLanes <= d; c += F::kLanes) F::Store(dst + c, F::Load(src + c));
  for (; c < PaddedFloats(d); c += F::kLanes) {
    float buffer[F::kLanes] = {};
    if (c < d) std::memcpy(buffer, src + c, static_cast<size_t>(d - c) * sizeof(float));
    F::Store(dst + c, F::Load(buffer));
  }
}

// type: F32 or F16; T: the element that a page stores.
#define SHADOW_DEFINE_ATTEND_TYPE(name, F, type, T)                                                  \
  void SoftmaxSelected##type##name(const ExactTile& tile, const KvView& kv, float* scratch) {        \
    SoftmaxSelected<F, T>(tile, kv, scratch);                                                        \
  }                                                                                                  \
  void AddValues##type##name(const ValueTile& tile, const KvView& kv) { AddValues<F, T>(tile, kv); } \
  void SumValues##type##name(const void* v, int begin, int end, int d, float* sum) {                 \
    SumValues<F>(static_cast<const T*>(v), begin, end, d, sum);                                      \
  }                                                                                                  \
  void ScorePage##type##name(const PageScores& job, const void* k, float* scratch) {                 \
    ScorePage<F>(job, static_cast<const T*>(k), scratch);                                            \
  }                                                                                                  \
  void AttendDense##type##name(const DenseTile& tile, const KvView& kv, float* scratch) {            \
    AttendDense<F, T>(tile, kv, scratch);                                                            \
  }                                                                                                  \
  void StoreRow##type##name(const float* src, int d, void* dst) { StoreRow<F>(src, d, static_cast<T*>(dst)); }

#define SHADOW_DEFINE_ATTEND(name, F)            \
  SHADOW_DEFINE_ATTEND_TYPE(name, F, F32, float) \
  SHADOW_DEFINE_ATTEND_TYPE(name, F, F16, uint16_t)

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_ATTEND_GENERIC_H_
