#define SHADOW_AVX512_NAMESPACE avx512vbmi2
#include "kernels/simd/avx512.h"
#include "kernels/softmax/generic.h"

namespace shadow {

SHADOW_DEFINE_SOFTMAX(Avx512Vbmi2, avx512vbmi2::Floats)

}  // namespace shadow
