#include "cache/key_bounds.h"

#include <cstring>

namespace shadow {
namespace {

// Of bytes 4 i + j, for each j.
template <class Pick>
void FoldToFour(Pick pick, uint8_t* bytes) {
  uint8_t half[32];
  for (int size = 32; size >= 4; size /= 2) {
    std::memcpy(half, bytes + size, size_t(size));
    for (int j = 0; j < size; ++j) bytes[j] = pick(bytes[j], half[j]);
  }
}

}  // namespace

void WriteKeyBounds(const uint8_t* k_u8, int head_dim, int column, uint8_t* block) {
  const int d_padded = PaddedBytes(head_dim);
  for (int c = 0; c < d_padded; c += 4) {
    uint8_t most[64] = {}, least[64];  // four channels of 16 keys at a time, in arrays that compilers make vectors of
    std::memset(least, 255, sizeof(least));
    for (int i = 0; i < 4 * kPageRows; i += 64) {
      uint8_t keys[64];
      std::memcpy(keys, k_u8 + c * kPageRows + i, sizeof(keys));
      for (int j = 0; j < 64; ++j) most[j] = keys[j] > most[j] ? keys[j] : most[j];
      for (int j = 0; j < 64; ++j) least[j] = keys[j] < least[j] ? keys[j] : least[j];
    }
    FoldToFour([](uint8_t a, uint8_t b) { return a > b ? a : b; }, most);
    FoldToFour([](uint8_t a, uint8_t b) { return a < b ? a : b; }, least);
    std::memcpy(block + (c * kBoundPages + column * 4), most, 4);
    std::memcpy(block + ((d_padded + c) * kBoundPages + column * 4), least, 4);
  }
}

}  // namespace shadow
