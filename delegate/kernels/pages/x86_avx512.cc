#include "kernels/pages/generic.h"
#include "kernels/simd/avx512.h"

namespace shadow {

SHADOW_DEFINE_PAGES(Avx512, avx512::Floats, avx512::Ints)

}  // namespace shadow
