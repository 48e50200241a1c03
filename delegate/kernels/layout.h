// How one KV head of one layer lies in memory: pages of 64 positions that never move.
#ifndef SHADOWATTN_DELEGATE_KERNELS_LAYOUT_H_
#define SHADOWATTN_DELEGATE_KERNELS_LAYOUT_H_

#include <cstddef>
#include <cstdint>

namespace shadow {

inline constexpr int kPageRows = 64;
inline constexpr int kMaxHeadDim = 512;
inline constexpr size_t kAlignment = 64;

enum class CacheType : uint8_t { kFloat32, kFloat16 };

// Static, because ISA files include this header and each needs its own copy (see check_isa_symbols.cmake).
//
// Floats of a row of k, v, a padded query or an output tile; elements beyond head_dim are zero, so that kernels need no
// remainder loops.
static constexpr int PaddedFloats(int head_dim) { return (head_dim + 15) / 16 * 16; }
// Bytes of an INT8 row: the dot-product instructions take 4 at a time.
static constexpr int PaddedBytes(int head_dim) { return (head_dim + 3) / 4 * 4; }
static constexpr size_t ElementBytes(CacheType t) { return t == CacheType::kFloat32 ? 4 : 2; }

// 64 positions of one KV head. All are 64-byte aligned; rows not yet written hold zeros (k_u8: 128).
struct KvPage {
  void* k;        // [64][PaddedFloats(d)] float32 or FP16 (IEEE binary16)
  void* v;        // likewise
  uint8_t* k_u8;  // [PaddedBytes(d) / 4][64][4]: INT8 key + 128, four channels of one position together
  float* v_sum;   // [PaddedFloats(d)]: sum of the 64 values, for residual compensation; written when the page is full
};

// A growing list of pages, read-only for kernels. Position p is row p % 64 of pages[p / 64].
struct KvView {
  const KvPage* pages;
  int head_dim;
  CacheType type;
  const uint8_t* const* bounds = nullptr;  // min/max key bounds of the full pages in INT8, blocks of 64 pages
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_LAYOUT_H_
