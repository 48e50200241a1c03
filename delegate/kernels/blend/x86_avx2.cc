#include "kernels/blend/generic.h"
#include "kernels/simd/avx2.h"

namespace shadow {

SHADOW_DEFINE_BLEND(Avx2, avx2::Floats)

}  // namespace shadow
