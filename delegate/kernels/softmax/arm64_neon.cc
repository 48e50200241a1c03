#include "kernels/simd/neon.h"
#include "kernels/softmax/generic.h"

namespace shadow {

SHADOW_DEFINE_SOFTMAX(Neon, neon::Floats)

}  // namespace shadow
