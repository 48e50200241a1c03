#include "kernels/simd/scalar.h"

#include "kernels/pv_int8/generic.h"

namespace shadow {

SHADOW_DEFINE_PV_INT8(Scalar, scalar::Floats)

}  // namespace shadow
