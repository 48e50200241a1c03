#include "kernels/pv_int8/generic.h"
#include "kernels/simd/avx512.h"

namespace shadow {

SHADOW_DEFINE_PV_INT8(Avx512, avx512::Floats)

}  // namespace shadow
