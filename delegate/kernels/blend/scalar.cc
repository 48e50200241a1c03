#include "kernels/simd/scalar.h"

#include "kernels/blend/generic.h"

namespace shadow {

SHADOW_DEFINE_BLEND(Scalar, scalar::Floats)

}  // namespace shadow
