#include "kernels/attend/generic.h"
#include "kernels/simd/avx512.h"

namespace shadow {

SHADOW_DEFINE_ATTEND(Avx512, avx512::Floats)

}  // namespace shadow
