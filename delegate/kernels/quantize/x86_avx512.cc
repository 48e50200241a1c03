#include "kernels/quantize/generic.h"
#include "kernels/simd/avx512.h"

namespace shadow {

SHADOW_DEFINE_QUANTIZE(Avx512, avx512::Floats)

}  // namespace shadow
