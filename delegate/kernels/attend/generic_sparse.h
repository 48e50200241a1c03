// Exact softmax weights and values of selected positions, over a float vector type F (kernels/simd/) and a cache
// element type T (float, or uint16_t for FP16). Only ISA files include this.
//
// The weights of a tile are computed block by block. A block is a few pages; its keys are converted once, and every row
// of the tile takes its selected keys from there. With few rows the conversion of whole pages does not pay, and the
// keys are read where they are stored: the same numbers, so the same bits. A block has several pages because each new
// block costs every row a few mispredicted branches.
#ifndef SHADOWATTN_DELEGATE_KERNELS_ATTEND_GENERIC_SPARSE_H_
#define SHADOWATTN_DELEGATE_KERNELS_ATTEND_GENERIC_SPARSE_H_

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/attend/generic_dense.h"
#include "kernels/attend/generic_fp16.h"
#include "kernels/attend/kernels.h"
#include "kernels/attend/softmax.h"
#include "kernels/attend/sparse_scratch.h"
#include "kernels/attend/stored_rows.h"

namespace shadow {

constexpr int kConvertRows = 8;  // from this many rows on, whole blocks are converted

// Keys of a block that one query row selected: pointers up to a whole number of vectors, those after `count` to any
// key.
template <class T>
struct SelectedKeys {
  const T* const* row;
  int count;
  int padded;
};

// Addresses of selected keys in a converted block. It also reads what lies after the last position; the address that
// this gives lies within the block too.
template <class F>
void FindConverted(const int32_t* positions, int count, int padded, const float* block, const float** row) {
  for (int i = 0; i < count; i += F::kLanes) {
    uint32_t offset[F::kLanes];  // 32-bit products are far cheaper
    for (int j = 0; j < F::kLanes; ++j) {
      offset[j] = static_cast<uint32_t>(positions[i + j]) % kSparseBlock * static_cast<uint32_t>(padded);
    }
    for (int j = 0; j < F::kLanes; ++j) row[i + j] = block + offset[j];
  }
}

// Addresses of selected keys where the pages store them.
template <class F, class T>
void FindStored(const KvView& kv, const int32_t* positions, int count, const T** row) {
  for (int i = 0; i < count; ++i) row[i] = StoredRow<T>(kv, true, positions[i]);
  for (int i = count; i % F::kLanes != 0; ++i) row[i] = row[count - 1];
}

// How many of `count` ascending positions lie below `limit`.
template <class F>
int CountBelow(const int32_t* positions, int count, int limit) {
  int below = 0;
  while (below + F::kLanes <= count) {
    const int here = F::CountLess(positions + below, limit);
    below += here;
    if (here < F::kLanes) return below;
  }
  while (below < count && positions[below] < limit) ++below;
  return below;
}

// sum[j] += q . k[j] for Count keys, channel by channel.
template <class F, class T, int Count>
void AddProducts(const float* q, int padded, const T* const* k, typename F::V* sum) {
  for (int c = 0; c < padded; c += F::kLanes) {
    const typename F::V q_c = F::Load(q + c);
#pragma GCC unroll 8
    for (int j = 0; j < Count; ++j) sum[j] = F::MulAdd(q_c, F::Load(k[j] + c), sum[j]);
  }
}

// The scores of N keys from key `begin` on (N at most F::kLanes); the lanes after them are unspecified.
template <class F, class T, int N>
typename F::V SparseScores(const float* q, const SelectedKeys<T>& keys, int begin) {
  constexpr int kAtOnce = N < 8 ? N : 8;  // the addresses of this many keys fit into general registers
  typename F::V sum[F::kLanes];
#pragma GCC unroll 16
  for (int j = 0; j < F::kLanes; ++j) sum[j] = F::Set(0);
  const T* const* k = keys.row + begin;
  AddProducts<F, T, kAtOnce>(q, keys.padded, k, sum);
  if constexpr (N > kAtOnce) AddProducts<F, T, N - kAtOnce>(q, keys.padded, k + kAtOnce, sum + kAtOnce);
  return F::SumEach(sum);
}

// scores[0 .. count) = q . k of the selected keys; it writes up to F::kLanes - 1 elements more.
template <class F, class T>
void SelectedScores(const float* q, const SelectedKeys<T>& keys, float* scores) {
  int begin = 0;
  for (; begin + F::kLanes <= keys.count; begin += F::kLanes) {
    F::Store(scores + begin, SparseScores<F, T, F::kLanes>(q, keys, begin));
  }
  const int left = keys.count - begin;
  if (left == 0) return;
  if (left <= 4) {
    F::Store(scores + begin, SparseScores<F, T, 4>(q, keys, begin));
  } else if (left <= 8 || F::kLanes == 8) {
    F::Store(scores + begin, SparseScores < F, T, F::kLanes<8 ? F::kLanes : 8>(q, keys, begin));
  } else {
    F::Store(scores + begin, SparseScores<F, T, F::kLanes>(q, keys, begin));
  }
}

// Prefetches the keys that this query row needs next: the hardware prefetcher cannot predict where they lie.
template <class F, class T>
void PrefetchNext(const KvView& kv, const int32_t* positions, int count) {
  for (int i = 0; i < count && i < 2 * F::kLanes; ++i) {
    const T* row = StoredRow<T>(kv, true, positions[i]);
    for (int c = 0; c < PaddedFloats(kv.head_dim); c += static_cast<int>(64 / sizeof(T))) __builtin_prefetch(row + c);
  }
}

// Converts the keys of a block to float32, up to the last of `pages` pages.
template <class F, class T>
void ConvertBlock(const KvView& kv, int block, int pages, float* out) {
  const int size = kPageRows * PaddedFloats(kv.head_dim);
  const int end = (block + 1) * kBlockPages < pages ? (block + 1) * kBlockPages : pages;
  for (int p = block * kBlockPages; p < end; ++p, out += size) {
    const T* stored = static_cast<const T*>(kv.pages[p].k);
    for (int i = 0; i < size; i += F::kLanes) F::Store(out + i, F::Load(stored + i));
  }
}

// Number of pages up to the last selected position.
inline int PagesOf(const Selection& selected) {
  int pages = 0;
  for (int r = 0; r < selected.rows; ++r) {
    if (selected.k[r] == 0) continue;
    const int last = selected.positions[r * selected.stride + selected.k[r] - 1] / kPageRows + 1;
    pages = last > pages ? last : pages;
  }
  return pages;
}

// One pass over the cache. It calls visit(row, first, keys) for every row that selected a position of a block; `first`
// is the index of the first of them among all positions that the row selected.
template <class F, class T, class Visit>
void ForEachBlock(const Selection& selected, const KvView& kv, const SparseScratch& s, const Visit& visit) {
  const int padded = PaddedFloats(kv.head_dim), pages = PagesOf(selected);
  const bool convert = !std::is_same_v<T, float> && selected.rows >= kConvertRows;
  const float* converted[kSparseBlock];
  const T* stored[kSparseBlock];
  std::memset(s.begins, 0, static_cast<size_t>(selected.rows) * sizeof(int32_t));
  for (int block = 0; block * kBlockPages < pages; ++block) {
    if (convert) ConvertBlock<F, T>(kv, block, pages, s.block);
    for (int r = 0; r < selected.rows; ++r) {
      const int begin = s.begins[r], left = selected.k[r] - begin;
      const int32_t* positions = selected.positions + r * selected.stride + begin;
      const int count = CountBelow<F>(positions, left, (block + 1) * kSparseBlock);
      if (count == 0) continue;
      s.begins[r] = begin + count;
      if (convert) {
        FindConverted<F>(positions, count, padded, s.block, converted);
        visit(r, begin, SelectedKeys<float>{converted, count, padded});
      } else {
        FindStored<F, T>(kv, positions, count, stored);
        PrefetchNext<F, T>(kv, positions + count, left - count);
        visit(r, begin, SelectedKeys<T>{stored, count, padded});
      }
    }
  }
}

template <class F, class T>
void SoftmaxSelected(const ExactTile& tile, const KvView& kv, float* scratch) {
  const int padded = PaddedFloats(kv.head_dim);
  const SparseScratch s = DivideSparseScratch(scratch, tile.selected.rows, kv.head_dim);
  ForEachBlock<F, T>(tile.selected, kv, s, [&](int r, int first, const auto& keys) {
    SelectedScores<F>(tile.q + static_cast<ptrdiff_t>(r) * padded, keys,
                      tile.weights + r * tile.weights_stride + first);
  });
  for (int r = 0; r < tile.selected.rows; ++r) {
    float max = -__builtin_inff();
    tile.sums[r] = 0;
    const int k = tile.selected.k[r], size = (k + F::kLanes - 1) / F::kLanes * F::kLanes;
    SoftmaxBlock<F>(tile.weights + r * tile.weights_stride, k, size, tile.scale, &max, tile.sums + r);
  }
}

// start[r .. r + R) += page_residual . page_sums, for kVecs vectors of channels from channel c on.
template <class F, int R, int kVecs>
void AddPageResidualBlock(const ValueTile& tile, int r, int c, int padded) {
  typename F::V sum[R][kVecs];
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kVecs; ++j) sum[i][j] = F::Load(tile.start + (r + i) * padded + c + j * F::kLanes);
  }
  for (int b = 0; b < tile.pages; ++b) {
    const float* page_residual = tile.page_residual + b * tile.page_residual_stride + r;
    typename F::V page[kVecs];
#pragma GCC unroll 8
    for (int j = 0; j < kVecs; ++j) page[j] = F::Load(tile.page_sums + b * padded + c + j * F::kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
      const typename F::V weight = F::Set(page_residual[i]);
#pragma GCC unroll 8
      for (int j = 0; j < kVecs; ++j) sum[i][j] = F::MulAdd(weight, page[j], sum[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kVecs; ++j) F::Store(tile.start + (r + i) * padded + c + j * F::kLanes, sum[i][j]);
  }
}

// Channels from c on: blocks of kVecs vectors as long as they fit, then smaller blocks.
template <class F, int R, int kVecs>
void AddPageResiduals(const ValueTile& tile, int r, int c, int padded) {
  for (; c + kVecs * F::kLanes <= padded; c += kVecs * F::kLanes) AddPageResidualBlock<F, R, kVecs>(tile, r, c, padded);
  if constexpr (kVecs > 1) AddPageResiduals<F, R, kVecs / 2>(tile, r, c, padded);
}

// sum += weights . values, for kVecs vectors of channels from channel c on. Two accumulators alternate, so that a sum
// need not wait for the one before. The values are read where they are stored: neighbouring query rows select nearly
// the same positions, so the values are in the first or second cache level, and a loop over pages would mispredict its
// end once per page.
template <class F, class T, int kVecs>
void AddSelectedBlock(const SelectedValues& values, const KvView& kv, int c, float* sum) {
  typename F::V even[kVecs], odd[kVecs];
#pragma GCC unroll 16
  for (int j = 0; j < kVecs; ++j) {
    even[j] = F::Load(sum + c + j * F::kLanes);
    odd[j] = F::Set(0);
  }
  int i = 0;
  for (; i + 1 < values.k; i += 2) {
    const typename F::V w0 = F::Set(values.weights[i]), w1 = F::Set(values.weights[i + 1]);
    const T* v0 = StoredRow<T>(kv, false, values.positions[i]) + c;
    const T* v1 = StoredRow<T>(kv, false, values.positions[i + 1]) + c;
#pragma GCC unroll 16
    for (int j = 0; j < kVecs; ++j) even[j] = F::MulAdd(w0, F::Load(v0 + j * F::kLanes), even[j]);
#pragma GCC unroll 16
    for (int j = 0; j < kVecs; ++j) odd[j] = F::MulAdd(w1, F::Load(v1 + j * F::kLanes), odd[j]);
  }
  if (i < values.k) {
    const typename F::V w = F::Set(values.weights[i]);
    const T* v = StoredRow<T>(kv, false, values.positions[i]) + c;
#pragma GCC unroll 16
    for (int j = 0; j < kVecs; ++j) even[j] = F::MulAdd(w, F::Load(v + j * F::kLanes), even[j]);
  }
#pragma GCC unroll 16
  for (int j = 0; j < kVecs; ++j) F::Store(sum + c + j * F::kLanes, F::Add(even[j], odd[j]));
}

// Channels from c on: blocks of kVecs vectors as long as they fit, then smaller blocks.
template <class F, class T, int kVecs>
void AddSelected(const SelectedValues& values, const KvView& kv, int c, float* sum) {
  const int padded = PaddedFloats(kv.head_dim);
  for (; c + kVecs * F::kLanes <= padded; c += kVecs * F::kLanes) {
    AddSelectedBlock<F, T, kVecs>(values, kv, c, sum);
  }
  if constexpr (kVecs > 1) AddSelected<F, T, kVecs / 2>(values, kv, c, sum);
}

template <class F, class T>
void AddValues(const ValueTile& tile, const KvView& kv) {
  const int d = kv.head_dim, padded = PaddedFloats(d), rows = tile.selected.rows;
  if (tile.page_residual != nullptr) {
    int r = 0;
    for (; r + F::kRowBlock <= rows; r += F::kRowBlock)
      AddPageResiduals<F, F::kRowBlock, F::kVecBlock>(tile, r, 0, padded);
    for (; r < rows; ++r) AddPageResiduals<F, 1, F::kVecBlock>(tile, r, 0, padded);
  }
  for (int r = 0; r < rows; ++r) {
    const SelectedValues values{tile.selected.positions + r * tile.selected.stride,
                                tile.weights + r * tile.weights_stride, tile.selected.k[r]};
    float* sum = tile.start + static_cast<ptrdiff_t>(r) * padded;
    int done = 0;  // channels
    if constexpr (F::kHasFp16 && std::is_same_v<T, uint16_t>) {
      if (tile.allow_fp16) done = AddValuesFp16<F>(values, kv, tile.factor[r], sum);
    }
    AddSelected<F, T, F::kGatherVecs>(values, kv, done, sum);
    const typename F::V factor = F::Set(tile.factor[r]);
    for (int c = 0; c < d; c += F::kLanes) StoreUpTo<F>(tile.out[r] + c, d - c, F::Mul(F::Load(sum + c), factor));
  }
}

template <class F, class T>
void SumValues(const T* v, int begin, int end, int head_dim, float* sum) {
  const int padded = PaddedFloats(head_dim);
  for (int i = begin; i < end; ++i) {
    for (int c = 0; c < padded; c += F::kLanes) {
      F::Store(sum + c, F::Add(F::Load(sum + c), F::Load(v + static_cast<ptrdiff_t>(i) * padded + c)));
    }
  }
}

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_ATTEND_GENERIC_SPARSE_H_
