// Dispatch: a family's table has one row of kernels for each ISA level, best first; `needed` is what the row requires.
#ifndef SHADOWATTN_DELEGATE_KERNELS_LEVEL_H_
#define SHADOWATTN_DELEGATE_KERNELS_LEVEL_H_

#include <cstddef>

#include "kernels/arch.h"

namespace shadow {

// The best level that the machine can run; the last, the portable one, runs anywhere.
template <class Level, size_t kCount>
const Level& Best(const Level (&levels)[kCount], ArchFlags arch) {
  size_t i = 0;
  while (i + 1 < kCount && (arch & levels[i].needed) != levels[i].needed) ++i;
  return levels[i];
}

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_LEVEL_H_
