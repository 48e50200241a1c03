#include "kernels/simd/scalar.h"

#include "kernels/weigh/generic.h"

namespace shadow {

SHADOW_DEFINE_WEIGH(Scalar, scalar::Floats)

}  // namespace shadow
