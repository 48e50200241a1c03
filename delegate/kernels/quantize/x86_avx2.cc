#include "kernels/quantize/generic.h"
#include "kernels/simd/avx2.h"

namespace shadow {

SHADOW_DEFINE_QUANTIZE(Avx2, avx2::Floats)

}  // namespace shadow
