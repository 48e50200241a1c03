#include "kernels/simd/scalar.h"

#include "kernels/softmax/generic.h"

namespace shadow {

SHADOW_DEFINE_WEIGH(Scalar, scalar::Floats)

}  // namespace shadow
