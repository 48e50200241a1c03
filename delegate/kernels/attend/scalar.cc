#include "kernels/simd/scalar.h"

#include "kernels/attend/generic.h"

namespace shadow {

SHADOW_DEFINE_ATTEND(Scalar, scalar::Floats)

}  // namespace shadow
