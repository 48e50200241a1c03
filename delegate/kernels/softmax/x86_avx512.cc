#include "kernels/simd/avx512.h"
#include "kernels/softmax/generic.h"

namespace shadow {

SHADOW_DEFINE_SOFTMAX(Avx512, avx512::Floats)

}  // namespace shadow
