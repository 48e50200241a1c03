#define SHADOW_AVX512_NAMESPACE avx512fp16
#include "kernels/attend/generic.h"
#include "kernels/simd/avx512.h"

namespace shadow {

SHADOW_DEFINE_ATTEND(Avx512Fp16, avx512fp16::Floats)

}  // namespace shadow
