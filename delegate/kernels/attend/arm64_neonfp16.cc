#define SHADOW_NEON_NAMESPACE neonfp16
#include "kernels/attend/generic.h"
#include "kernels/simd/neon.h"

namespace shadow {

SHADOW_DEFINE_ATTEND(NeonFp16, neonfp16::Floats)

}  // namespace shadow
