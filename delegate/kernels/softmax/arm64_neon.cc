#include "kernels/simd/neon.h"
#include "kernels/softmax/generic.h"

namespace shadow {

SHADOW_DEFINE_WEIGH(Neon, neon::Floats)

}  // namespace shadow
