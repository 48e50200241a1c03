#include "kernels/blend/generic.h"
#include "kernels/simd/avx512.h"

namespace shadow {

SHADOW_DEFINE_BLEND(Avx512, avx512::Floats)

}  // namespace shadow
