// Dense attention over all visible positions, page by page, over a float vector type F (kernels/simd/) and a cache
// element type T (float, or uint16_t for FP16). Only ISA files include this.
//
// Every number of a row comes from one chain of operations that does not depend on the other rows of its register tile:
// a score sums its channels in order, an output its positions in order. So a row's result has the same bits in every
// tile.
#ifndef SHADOWATTN_DELEGATE_KERNELS_ATTEND_GENERIC_DENSE_H_
#define SHADOWATTN_DELEGATE_KERNELS_ATTEND_GENERIC_DENSE_H_

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/attend/dense_scratch.h"
#include "kernels/attend/kernels.h"
#include "kernels/attend/softmax.h"

namespace shadow {

// Up to F::kRowBlock rows of the tile that attend to the current page.
template <class F>
struct RowGroup {
  int count = 0;
  int row[F::kRowBlock];
};

// [64][padded] of T -> [padded][64] of float.
template <class F, class T>
void TransposeKeys(const T* k, int padded, float* k_transposed) {
  for (int j = 0; j < kPageRows; j += F::kLanes) {
    for (int c = 0; c < padded; c += F::kLanes) {
      typename F::V block[F::kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < F::kLanes; ++i) block[i] = F::Load(k + (j + i) * padded + c);
      F::Transpose(block);
#pragma GCC unroll 16
      for (int i = 0; i < F::kLanes; ++i) F::Store(k_transposed + (c + i) * kPageRows + j, block[i]);
    }
  }
}

// weights[r][j] = q[r] . k[j] for 64 keys.
template <class F, int R>
void DenseScores(const float* const* q, int d, const float* k_transposed, float* weights) {
  constexpr int kKeys = F::kVecBlock * F::kLanes;
  for (int j = 0; j < kPageRows; j += kKeys) {
    typename F::V sum[R][F::kVecBlock];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int i = 0; i < F::kVecBlock; ++i) sum[r][i] = F::Set(0);
    }
    const float* k = k_transposed + j;
    for (int c = 0; c < d; ++c, k += kPageRows) {
      typename F::V key[F::kVecBlock];
#pragma GCC unroll 8
      for (int i = 0; i < F::kVecBlock; ++i) key[i] = F::Load(k + i * F::kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const typename F::V query = F::Set(q[r][c]);
#pragma GCC unroll 8
        for (int i = 0; i < F::kVecBlock; ++i) sum[r][i] = F::MulAdd(query, key[i], sum[r][i]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int i = 0; i < F::kVecBlock; ++i) F::Store(weights + r * kPageRows + j + i * F::kLanes, sum[r][i]);
    }
  }
}

// out[r] = correction[r] * out[r] + sum_j weights[r][j] * v[j], for kVecs vectors of channels.
template <class F, class T, int R, int kVecs>
void DenseValueBlock(const float* weights, const float* correction, const T* v, int padded, float* const* out) {
  typename F::V sum[R][kVecs];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int i = 0; i < kVecs; ++i) sum[r][i] = F::Mul(F::Load(out[r] + i * F::kLanes), F::Set(correction[r]));
  }
  for (int j = 0; j < kPageRows; ++j, v += padded) {
    typename F::V value[kVecs];
#pragma GCC unroll 8
    for (int i = 0; i < kVecs; ++i) value[i] = F::Load(v + i * F::kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const typename F::V weight = F::Set(weights[r * kPageRows + j]);
#pragma GCC unroll 8
      for (int i = 0; i < kVecs; ++i) sum[r][i] = F::MulAdd(weight, value[i], sum[r][i]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int i = 0; i < kVecs; ++i) F::Store(out[r] + i * F::kLanes, sum[r][i]);
  }
}

// Channels from c on: blocks of kVecs vectors as long as they fit, then smaller blocks.
template <class F, class T, int R, int kVecs>
void DenseValues(const float* weights, const float* correction, const T* v, int padded, int c, float** out) {
  for (; c + kVecs * F::kLanes <= padded; c += kVecs * F::kLanes) {
    DenseValueBlock<F, T, R, kVecs>(weights, correction, v + c, padded, out);
    for (int r = 0; r < R; ++r) out[r] += kVecs * F::kLanes;
  }
  if constexpr (kVecs > 1) DenseValues<F, T, R, kVecs / 2>(weights, correction, v, padded, c, out);
}

// What a group of rows needs of the current page. T: float, or the element that the page stores.
template <class T>
struct DensePage {
  const DenseTile* tile;
  const DenseScratch* scratch;
  const T* v;
  int begin;  // first position
  int head_dim;
};

template <class F, class T, int R>
void AttendGroup(const DensePage<T>& page, const RowGroup<F>& group) {
  if constexpr (R == 0) {
    return;
  } else if (group.count < R) {
    AttendGroup<F, T, R - 1>(page, group);
  } else {
    const DenseScratch& s = *page.scratch;
    const int padded = PaddedFloats(page.head_dim);
    const float* q[R];
    float* out[R];
    float correction[R];
    for (int r = 0; r < R; ++r) {
      q[r] = page.tile->q + static_cast<ptrdiff_t>(group.row[r]) * padded;
      out[r] = s.out + static_cast<ptrdiff_t>(group.row[r]) * padded;
    }
    DenseScores<F, R>(q, page.head_dim, s.k_transposed, s.weights);
    for (int r = 0; r < R; ++r) {
      const int row = group.row[r], room = page.tile->causal[row] - page.begin;
      const int visible = room < kPageRows ? room : kPageRows;
      correction[r] =
          SoftmaxBlock<F>(s.weights + r * kPageRows, visible, kPageRows, page.tile->scale, s.max + row, s.sum + row);
    }
    DenseValues<F, T, R, F::kVecBlock>(s.weights, correction, page.v, padded, 0, out);
  }
}

// All rows of the tile that attend to the page, F::kRowBlock at a time.
template <class F, class T>
void AttendPage(const DensePage<T>& page) {
  RowGroup<F> group;
  for (int r = 0; r < page.tile->rows; ++r) {
    if (page.tile->causal[r] <= page.begin) continue;
    group.row[group.count++] = r;
    if (group.count < F::kRowBlock) continue;
    AttendGroup<F, T, F::kRowBlock>(page, group);
    group.count = 0;
  }
  AttendGroup<F, T, F::kRowBlock - 1>(page, group);
}

template <class F>
int StartRows(const DenseTile& tile, int padded, const DenseScratch& s) {
  int longest = 0;
  for (int r = 0; r < tile.rows; ++r) {
    s.max[r] = -__builtin_inff();
    s.sum[r] = 0;
    longest = tile.causal[r] > longest ? tile.causal[r] : longest;
  }
  std::memset(s.out, 0, static_cast<size_t>(tile.rows) * static_cast<size_t>(padded) * sizeof(float));
  return longest;
}

template <class F, class T>
void AttendDense(const DenseTile& tile, const KvView& kv, float* scratch) {
  static_assert(F::kRowBlock <= kMaxRowBlock);
  const int d = kv.head_dim, padded = PaddedFloats(d);
  const DenseScratch s = DivideScratch(scratch, tile.rows, d);
  const int longest = StartRows<F>(tile, padded, s);
  for (int begin = 0; begin < longest; begin += kPageRows) {
    const KvPage& page = kv.pages[begin / kPageRows];
    TransposeKeys<F>(static_cast<const T*>(page.k), padded, s.k_transposed);
    const T* v = static_cast<const T*>(page.v);
    if (std::is_same_v<T, float> || tile.rows <= F::kRowBlock) {
      AttendPage<F, T>({&tile, &s, v, begin, d});
    } else {  // more than one group reads the values: convert them once
      for (int i = 0; i < kPageRows * padded; i += F::kLanes) F::Store(s.v + i, F::Load(v + i));
      AttendPage<F, float>({&tile, &s, s.v, begin, d});
    }
  }
  for (int r = 0; r < tile.rows; ++r) {
    const typename F::V factor = F::Set(1.0f / s.sum[r]);
    for (int c = 0; c < d; c += F::kLanes) {
      StoreUpTo<F>(tile.out[r] + c, d - c, F::Mul(F::Load(s.out + static_cast<ptrdiff_t>(r) * padded + c), factor));
    }
  }
}

// Scores of the rows from row r on, R at a time and one at a time at the end.
template <class F, int R>
void ScoreRows(const PageScores& job, const float* k_transposed, int r) {
  const int padded = PaddedFloats(job.head_dim);
  const typename F::V scale = F::Set(job.scale);
  for (; r + R <= job.rows; r += R) {
    const float* q[R];
    float block[R * kPageRows];
    for (int i = 0; i < R; ++i) q[i] = job.q + static_cast<ptrdiff_t>(r + i) * padded;
    DenseScores<F, R>(q, job.head_dim, k_transposed, block);
    for (int i = 0; i < R; ++i) {
      for (int j = 0; j < kPageRows; j += F::kLanes) {
        F::Store(job.scores + (r + i) * job.stride + j, F::Mul(scale, F::Load(block + i * kPageRows + j)));
      }
    }
  }
  if constexpr (R > 1) ScoreRows<F, 1>(job, k_transposed, r);
}

template <class F, class T>
void ScorePage(const PageScores& job, const T* k, float* scratch) {
  TransposeKeys<F>(k, PaddedFloats(job.head_dim), scratch);
  ScoreRows<F, F::kRowBlock>(job, scratch, 0);
}

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_ATTEND_GENERIC_DENSE_H_
