#include "kernels/simd/scalar.h"

#include "kernels/softmax/generic.h"

namespace shadow {

SHADOW_DEFINE_SOFTMAX(Scalar, scalar::Floats)

}  // namespace shadow
