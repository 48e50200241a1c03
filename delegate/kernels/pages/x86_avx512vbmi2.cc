#define SHADOW_AVX512_NAMESPACE avx512vbmi2
#include "kernels/pages/generic.h"
#include "kernels/simd/avx512.h"

namespace shadow {

SHADOW_DEFINE_PAGES(Avx512Vbmi2, avx512vbmi2::Floats, avx512vbmi2::Ints)

}  // namespace shadow
