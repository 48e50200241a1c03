#include "kernels/quantize/generic.h"
#include "kernels/simd/neon.h"

namespace shadow {

SHADOW_DEFINE_QUANTIZE(Neon, neon::Floats)

}  // namespace shadow
