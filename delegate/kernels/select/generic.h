// Defines the select kernels of one ISA from its vector types (generic_int32.h, generic_int8.h). Only ISA files include
// this.
#ifndef SHADOWATTN_DELEGATE_KERNELS_SELECT_GENERIC_H_
#define SHADOWATTN_DELEGATE_KERNELS_SELECT_GENERIC_H_

#include "kernels/select/generic_int32.h"
#include "kernels/select/generic_int8.h"

#define SHADOW_DEFINE_SELECT(name, I, B)                                                                        \
  void SelectInt32##name(const int32_t* scores, int n, int k, int32_t offset, int32_t* scratch, int32_t* out) { \
    SelectInt32<I>(scores, n, k, offset, scratch, out);                                                         \
  }                                                                                                             \
  void SelectInt8##name(const int8_t* scores, int n, int k, int32_t offset, int32_t*, int32_t* out) {           \
    SelectInt8<B>(scores, n, k, offset, out);                                                                   \
  }

#endif  // SHADOWATTN_DELEGATE_KERNELS_SELECT_GENERIC_H_
