// Exact top-k: the k positions of a row with the best scores; among equal scores the newest (largest index) first.
// docs/algorithm.md, top-k modes.
#ifndef SHADOWATTN_DELEGATE_KERNELS_SELECT_SELECT_H_
#define SHADOWATTN_DELEGATE_KERNELS_SELECT_SELECT_H_

#include <cstdint>

#include "kernels/arch.h"

namespace shadow {

// Writes the indices (0 .. n-1) of the k best of scores[0 .. n) to out in ascending order, each plus `offset`.
// 0 <= k <= n. scratch holds n + 64 int32. out has room for k + 16 elements, because a vector store may write past k.
// scores need no alignment. Every score is a legal value (for int8: -128 too).
using SelectInt32Fn = void (*)(const int32_t* scores, int n, int k, int32_t offset, int32_t* scratch, int32_t* out);
using SelectInt8Fn = void (*)(const int8_t* scores, int n, int k, int32_t offset, int32_t* scratch, int32_t* out);
SelectInt32Fn GetSelectInt32Kernel(ArchFlags arch);
SelectInt8Fn GetSelectInt8Kernel(ArchFlags arch);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_SELECT_SELECT_H_
