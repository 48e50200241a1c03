// Float rows to INT8 (docs/algorithm.md, step 1). The integers are identical on every ISA: separate float32 operations,
// rounding half to even.
#ifndef SHADOWATTN_DELEGATE_KERNELS_QUANTIZE_QUANTIZE_H_
#define SHADOWATTN_DELEGATE_KERNELS_QUANTIZE_QUANTIZE_H_

#include <cstdint>

#include "kernels/arch.h"

namespace shadow {

// A key, minus a calibrated centre: out[i] = clamp(rint((x[i] - centre[i]) * inv_scale), -127, 127), i in [0, d).
// Returns how many elements were clamped, or -1 if a value is not finite (out is then unspecified). The mean of K is
// subtracted by SageAttention (arXiv 2410.02367), too.
using QuantizeKeyFn = int (*)(const float* x, const float* centre, float inv_scale, int d, int8_t* out);
QuantizeKeyFn GetQuantizeKeyKernel(ArchFlags arch);

// A query: out[i] = rint(x[i] * (127 / max|x|)), i in [0, d); max|x| goes to *largest. Returns sum(out), or INT32_MIN
// if a value is not finite. A row of zeros gives zeros.
using QuantizeQueryFn = int32_t (*)(const float* x, int d, int8_t* out, float* largest);
QuantizeQueryFn GetQuantizeQueryKernel(ArchFlags arch);

// A coarse query for a static estimate graph (docs/algorithm.md, step 1): the factor follows from the expected spread
// of the row's scores. Returns false if a value is not finite. k_variance [d]: variance of the INT8 keys of each
// channel. Portable only: float64, in channel order.
bool QuantizeQueryCoarse(const float* x, const float* k_variance, float estimate_multiplier, int d, int8_t* out);

// The factor of QuantizeQueryCoarse, in INT8 steps per unit of x; 0 for a row that becomes zeros, negative if a value
// is not finite.
double CoarseStep(const float* x, const float* k_variance, float estimate_multiplier, int d);

// Stores an INT8 key as row `row` of a page's k_u8 (layout.h). Channels from d to PaddedBytes(d) become 128.
void PackKey(const int8_t* key, int d, int row, uint8_t* k_u8);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_QUANTIZE_QUANTIZE_H_
