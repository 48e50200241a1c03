#include "kernels/blend/generic.h"
#include "kernels/simd/neon.h"

namespace shadow {

SHADOW_DEFINE_BLEND(Neon, neon::Floats)

}  // namespace shadow
