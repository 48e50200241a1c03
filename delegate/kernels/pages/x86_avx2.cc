#include "kernels/pages/generic.h"
#include "kernels/simd/avx2.h"

namespace shadow {

SHADOW_DEFINE_PAGES(Avx2, avx2::Floats, avx2::Ints)

}  // namespace shadow
