#include "kernels/simd/avx2.h"
#include "kernels/softmax/generic.h"

namespace shadow {

SHADOW_DEFINE_SOFTMAX(Avx2, avx2::Floats)

}  // namespace shadow
