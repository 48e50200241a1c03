#include "kernels/attend/generic.h"
#include "kernels/simd/neon.h"

namespace shadow {

SHADOW_DEFINE_ATTEND(Neon, neon::Floats)

}  // namespace shadow
