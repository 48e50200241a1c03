// <immintrin.h>. GCC 12 warns of its own header: the "undefined" vectors that it passes to masked builtins.
#ifndef SHADOWATTN_DELEGATE_KERNELS_SIMD_X86_H_
#define SHADOWATTN_DELEGATE_KERNELS_SIMD_X86_H_

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#endif  // SHADOWATTN_DELEGATE_KERNELS_SIMD_X86_H_
