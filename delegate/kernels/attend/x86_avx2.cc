#include "kernels/attend/generic.h"
#include "kernels/simd/avx2.h"

namespace shadow {

SHADOW_DEFINE_ATTEND(Avx2, avx2::Floats)

}  // namespace shadow
