// exp and the online softmax (running maximum and sum) over a float vector type F (kernels/simd/). Only ISA files
// include this.
#ifndef SHADOWATTN_DELEGATE_KERNELS_ATTEND_SOFTMAX_H_
#define SHADOWATTN_DELEGATE_KERNELS_ATTEND_SOFTMAX_H_

#include <cstddef>
#include <cstring>

namespace shadow {

// e^x for x <= 0, within 2 units in the last place; 0 for -infinity and where the result would be subnormal.
// x = n ln 2 + r with |r| <= ln 2 / 2; ln 2 is split in two, the first part so short that n times it is exact without
// an FMA.
template <class F>
typename F::V Exp(typename F::V x) {
  using V = typename F::V;
  x = F::Max(x, F::Set(-100.0f));
  const V n = F::Round(F::Mul(x, F::Set(1.44269504f)));
  V r = F::MulAdd(n, F::Set(-0.693359375f), x);
  r = F::MulAdd(n, F::Set(2.12194440e-4f), r);
  V p = F::Set(1.9875691500e-4f);  // minimax polynomial of (e^r - 1 - r) / r^2 (Cephes, expf)
  p = F::MulAdd(p, r, F::Set(1.3981999507e-3f));
  p = F::MulAdd(p, r, F::Set(8.3334519073e-3f));
  p = F::MulAdd(p, r, F::Set(4.1665795894e-2f));
  p = F::MulAdd(p, r, F::Set(1.6666665459e-1f));
  p = F::MulAdd(p, r, F::Set(5.0000001201e-1f));
  p = F::Add(F::MulAdd(F::Mul(r, r), p, r), F::Set(1.0f));
  return F::Ldexp(p, n);
}

// Turns the first `count` scores into weights exp(scale * score - max) and sets those from there to `size`, a whole
// number of vectors, to zero. Updates the row's running maximum and sum; returns the factor for the row's earlier
// output.
template <class F>
float SoftmaxBlock(float* scores, int count, int size, float scale, float* max, float* sum) {
  using V = typename F::V;
  for (int j = count; j < size; ++j) scores[j] = -__builtin_inff();
  V largest = F::Set(*max);
  for (int i = 0; i < size; i += F::kLanes) {
    const V s = F::Mul(F::Load(scores + i), F::Set(scale));
    largest = F::Max(largest, s);
    F::Store(scores + i, s);
  }
  const float new_max = F::MaxLanes(largest);
  V total = F::Set(0);
  for (int i = 0; i < size; i += F::kLanes) {
    const V w = Exp<F>(F::Sub(F::Load(scores + i), F::Set(new_max)));
    total = F::Add(total, w);
    F::Store(scores + i, w);
  }
  float correction[F::kLanes];
  F::Store(correction, Exp<F>(F::Set(*max - new_max)));
  *max = new_max;
  *sum = *sum * correction[0] + F::SumLanes(total);
  return correction[0];
}

// Stores a vector where only `room` floats may be left.
template <class F>
void StoreUpTo(float* p, int room, typename F::V v) {
  if (room >= F::kLanes) return F::Store(p, v);
  float buffer[F::kLanes];
  F::Store(buffer, v);
  if (room > 0) std::memcpy(p, buffer, static_cast<size_t>(room) * sizeof(float));
}

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_ATTEND_SOFTMAX_H_
