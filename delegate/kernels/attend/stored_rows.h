// Keys and values where the pages store them, and the positions that a query row selected. Only ISA files include this.
#ifndef SHADOWATTN_DELEGATE_KERNELS_ATTEND_STORED_ROWS_H_
#define SHADOWATTN_DELEGATE_KERNELS_ATTEND_STORED_ROWS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/layout.h"

namespace shadow {

template <class T>
const T* StoredRow(const KvView& kv, bool keys, int32_t position) {
  const auto at = static_cast<uint32_t>(position);
  const KvPage& page = kv.pages[at / kPageRows];
  const auto padded = static_cast<ptrdiff_t>(PaddedFloats(kv.head_dim));
  return static_cast<const T*>(keys ? page.k : page.v) + at % kPageRows * padded;
}

// Positions that one query row selected, with their weights.
struct SelectedValues {
  const int32_t* positions;
  const float* weights;
  int k;
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_ATTEND_STORED_ROWS_H_
