// The AMX tile instructions as inline assembly. GCC's intrinsics do not tell the compiler that they read memory, so it
// may move or drop the stores that fill their operands.
#ifndef SHADOWATTN_DELEGATE_KERNELS_SIMD_AMX_H_
#define SHADOWATTN_DELEGATE_KERNELS_SIMD_AMX_H_

#include <cstddef>
#include <cstdint>

#include "kernels/simd/x86.h"

namespace shadow {

// What ldtilecfg reads and sttilecfg writes.
struct alignas(64) TileConfig {
  uint8_t palette;
  uint8_t start_row;
  uint8_t reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
static_assert(sizeof(TileConfig) == 64);

namespace {  // each file has its own copy (see check_isa_symbols.cmake)

// Configures this thread's tiles. Reading the configuration takes a tenth of the time of setting it, and it is right
// whatever other code did with the tiles meanwhile; a variable of ours would not be.
inline void SetTiles(const TileConfig& wanted) {
  TileConfig now;
  __asm__ volatile("sttilecfg %0" : "=m"(now));
  if (_mm512_cmpneq_epi64_mask(_mm512_load_si512(&now), _mm512_load_si512(&wanted)) == 0) return;
  __asm__ volatile("ldtilecfg %0" : : "m"(wanted));
}

inline void ReleaseTiles() { __asm__ volatile("tilerelease"); }

// stride: bytes from one row to the next.
template <int kTile>
inline void LoadTile(const void* first_row, ptrdiff_t stride) {
  __asm__ volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(kTile), "r"(first_row), "r"(stride) : "memory");
}

template <int kTile>
inline void StoreTile(void* first_row, ptrdiff_t stride) {
  __asm__ volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(kTile), "r"(first_row), "r"(stride) : "memory");
}

// int32 sums += rows of int8 by columns of uint8, four channels at a time.
template <int kSums, int kSigned, int kUnsigned>
inline void MultiplyTiles() {
  __asm__ volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSums), "i"(kSigned), "i"(kUnsigned));
}

}  // namespace
}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_SIMD_AMX_H_
