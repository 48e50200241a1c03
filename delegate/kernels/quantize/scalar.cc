#include "kernels/simd/scalar.h"

#include "kernels/quantize/generic.h"

namespace shadow {

SHADOW_DEFINE_QUANTIZE(Scalar, scalar::Floats)

}  // namespace shadow
