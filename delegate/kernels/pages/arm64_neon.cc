#include "kernels/pages/generic.h"
#include "kernels/simd/neon.h"

namespace shadow {

SHADOW_DEFINE_PAGES(Neon, neon::Floats, neon::Ints)

}  // namespace shadow
