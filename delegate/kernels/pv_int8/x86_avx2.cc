#include "kernels/pv_int8/generic.h"
#include "kernels/simd/avx2.h"

namespace shadow {

SHADOW_DEFINE_PV_INT8(Avx2, avx2::Floats)

}  // namespace shadow
