// The largest and the smallest INT8 key of each channel of a page. With them the score of a query against any key of
// the page is bounded (docs/op_spec.md, step 2).
#ifndef SHADOWATTN_DELEGATE_CACHE_KEY_BOUNDS_H_
#define SHADOWATTN_DELEGATE_CACHE_KEY_BOUNDS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/layout.h"

namespace shadow {

// The bounds of 64 pages make a block. It is laid out as a page of 64 keys, whose "keys" are the pages and whose
// channels are twice as many: first the largest values, then the smallest.
inline constexpr int kBoundPages = 64;
inline constexpr size_t KeyBoundBytes(int head_dim) { return size_t(2 * PaddedBytes(head_dim)) * kBoundPages; }

// Writes the bounds of a full page into column `column` of its block.
void WriteKeyBounds(const uint8_t* k_u8, int head_dim, int column, uint8_t* block);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_CACHE_KEY_BOUNDS_H_
