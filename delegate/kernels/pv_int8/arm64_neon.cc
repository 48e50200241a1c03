#include "kernels/pv_int8/generic.h"
#include "kernels/simd/neon.h"

namespace shadow {

SHADOW_DEFINE_PV_INT8(Neon, neon::Floats)

}  // namespace shadow
