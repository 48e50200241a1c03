// Attend over selected positions, over a float vector type F (kernels/simd/) and a cache element type T (float, or
// uint16_t for binary16). Only ISA files include this.
//
// Blocks of selected rows, with a running maximum as in the dense kernel. Blocks, so that the address of a position is
// worked out once for its key and its value; large ones, because every block waits for its softmax.
#ifndef SHADOWATTN_DELEGATE_KERNELS_ATTEND_GENERIC_SPARSE_H_
#define SHADOWATTN_DELEGATE_KERNELS_ATTEND_GENERIC_SPARSE_H_

#include <cstdint>
#include <cstring>

#include "kernels/attend/kernels.h"
#include "kernels/attend/softmax.h"

namespace shadow {

constexpr int kSparseBlock = 256;
constexpr int kValuesAhead = 16;  // rows of v that are on their way into the cache

// Asks for a row: the hardware cannot guess where the next one lies. F only names the ISA: code for one must not be
// shared with another.
template <class F, class T>
void PrefetchRow(const T* row, int padded) {
  for (int c = 0; c < padded; c += static_cast<int>(64 / sizeof(T))) __builtin_prefetch(row + c);
}

// The rows of k and v of up to kSparseBlock positions.
template <class F, class T>
struct SparseRows {
  const T* k[kSparseBlock];
  const T* v[kSparseBlock];

  // Looks up rows begin .. begin + F::kLanes - 1 of `count` and asks for their keys; past the end, the last row again.
  void Find(const KvView& kv, const int32_t* selected, int count, int begin) {
    if (begin >= count) return;
    const int padded = PaddedFloats(kv.head_dim);
#pragma GCC unroll 1
    for (int j = begin; j < begin + F::kLanes; ++j) {
      const uint32_t position = static_cast<uint32_t>(selected[j < count ? j : count - 1]);
      const KvPage& page = kv.pages[position / kPageRows];
      const size_t row = position % kPageRows * static_cast<size_t>(padded);
      k[j] = static_cast<const T*>(page.k) + row;
      v[j] = static_cast<const T*>(page.v) + row;
      PrefetchRow<F>(k[j], padded);
    }
  }
};

// scores[0 .. F::kLanes) = q . k of these rows.
template <class F, class T>
void SparseScores(const float* q, int padded, const T* const* k, float* scores) {
  typename F::V sum[F::kLanes];
#pragma GCC unroll 16
  for (int j = 0; j < F::kLanes; ++j) sum[j] = F::Set(0);
  constexpr int kRows = F::kLanes < 8 ? F::kLanes : 8;  // as many addresses as fit into general registers
#pragma GCC unroll 2
  for (int begin = 0; begin < F::kLanes; begin += kRows) {
    for (int c = 0; c < padded; c += F::kLanes) {
      const typename F::V q_c = F::Load(q + c);
#pragma GCC unroll 8
      for (int j = begin; j < begin + kRows; ++j) sum[j] = F::MulAdd(q_c, F::Load(k[j] + c), sum[j]);
    }
  }
  F::Store(scores, F::SumEach(sum));
}

// out = correction * out + sum_i weights[i] * v[i], for kVecs vectors of channels from channel c on. Few vectors take
// turns between two accumulators, or each sum would wait for the one before; the weight after the last is zero.
template <class F, class T, int kVecs>
void SparseValueBlock(const float* weights, float correction, const T* const* v, int count, int c, float* out) {
  constexpr int kTurns = kVecs >= 8 ? 1 : 2;
  typename F::V sum[kTurns][kVecs];
#pragma GCC unroll 16
  for (int j = 0; j < kVecs; ++j) {
    sum[0][j] = F::Mul(F::Load(out + c + j * F::kLanes), F::Set(correction));
    if (kTurns > 1) sum[kTurns - 1][j] = F::Set(0);
  }
  for (int i = 0; i < count; i += kTurns) {
#pragma GCC unroll 2
    for (int t = 0; t < kTurns; ++t) {
      PrefetchRow<F>(v[i + t + kValuesAhead < count ? i + t + kValuesAhead : count - 1] + c, kVecs * F::kLanes);
      const typename F::V weight = F::Set(weights[i + t]);
#pragma GCC unroll 16
      for (int j = 0; j < kVecs; ++j) sum[t][j] = F::MulAdd(weight, F::Load(v[i + t] + c + j * F::kLanes), sum[t][j]);
    }
  }
#pragma GCC unroll 16
  for (int j = 0; j < kVecs; ++j) {
    F::Store(out + c + j * F::kLanes, kTurns == 1 ? sum[0][j] : F::Add(sum[0][j], sum[kTurns - 1][j]));
  }
}

// Channels from c on: as many blocks of kVecs vectors as fit, then smaller ones.
template <class F, class T, int kVecs>
void SparseValues(const float* weights, float correction, const T* const* v, int count, int c, int padded, float* out) {
  for (; c + kVecs * F::kLanes <= padded; c += kVecs * F::kLanes) {
    SparseValueBlock<F, T, kVecs>(weights, correction, v, count, c, out);
  }
  if constexpr (kVecs > 1) SparseValues<F, T, kVecs / 2>(weights, correction, v, count, c, padded, out);
}

// State of a row: the sum of weight * v, and what the softmax needs.
struct SparseRow {
  float total[kMaxHeadDim];
  float max, sum;
};

template <class F, class T>
void AttendBlock(const float* q, float scale, const KvView& kv, const int32_t* selected, int count, float* weights,
                 SparseRow* state) {
  const int padded = PaddedFloats(kv.head_dim);
  SparseRows<F, T> rows;
  rows.Find(kv, selected, count, 0);
  rows.Find(kv, selected, count, F::kLanes);
  int size = 0;
  for (; size < count; size += F::kLanes) {
    rows.Find(kv, selected, count, size + 2 * F::kLanes);
    SparseScores<F, T>(q, padded, rows.k + size, weights + size);
  }
  for (int i = 0; i < kValuesAhead && i < count; ++i) PrefetchRow<F>(rows.v[i], padded);
  const float correction = SoftmaxBlock<F>(weights, count, size, scale, &state->max, &state->sum);
  SparseValues<F, T, F::kGatherVecs>(weights, correction, rows.v, count, 0, padded, state->total);
}

template <class F, class T>
void AttendSparse(const float* q, float scale, const KvView& kv, const int32_t* selected, int k, float* weights,
                  float* out) {
  SparseRow state;
  std::memset(state.total, 0, sizeof(state.total));
  state.max = -__builtin_inff();
  state.sum = 0;
  for (int i = 0; i < k; i += kSparseBlock) {
    const int count = k - i < kSparseBlock ? k - i : kSparseBlock;
    AttendBlock<F, T>(q, scale, kv, selected + i, count, weights, &state);
  }
  for (int c = 0; c < kv.head_dim; c += F::kLanes) {
    const typename F::V mean = F::Mul(F::Load(state.total + c), F::Set(1.0f / state.sum));
    StoreUpTo<F>(out + c, kv.head_dim - c, mean);
  }
}

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_ATTEND_GENERIC_SPARSE_H_
