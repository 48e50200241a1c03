#include "kernels/simd/scalar.h"

#include "kernels/pages/generic.h"

namespace shadow {

SHADOW_DEFINE_PAGES(Scalar, scalar::Floats, scalar::Ints)

}  // namespace shadow
