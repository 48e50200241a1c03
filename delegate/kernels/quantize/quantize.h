// Float rows to INT8. Identical integers on every ISA: float32 operations, one by one, rounding half to even.
#ifndef SHADOWATTN_DELEGATE_KERNELS_QUANTIZE_QUANTIZE_H_
#define SHADOWATTN_DELEGATE_KERNELS_QUANTIZE_QUANTIZE_H_

#include <cstdint>

#include "kernels/arch.h"

namespace shadow {

// K: out[i] = clamp(rint((x[i] - centre[i]) * inv_scale), -127, 127). Returns how many elements were clamped, or -1 if
// a value is not finite (out is then unspecified).
using QuantizeKeyFn = int (*)(const float* x, const float* centre, float inv_scale, int d, int8_t* out);
QuantizeKeyFn GetQuantizeKeyKernel(ArchFlags arch);

// Q: out[i] = rint(x[i] * (127 / max|x|)); max|x| goes to *largest. Returns sum(out), or INT32_MIN if a value is not
// finite. A zero row gives zeros.
using QuantizeQueryFn = int32_t (*)(const float* x, int d, int8_t* out, float* largest);
QuantizeQueryFn GetQuantizeQueryKernel(ArchFlags arch);

// Coarse Q for the estimate graph (docs/op_spec.md, quantise). Returns false if a value is not finite.
// k_variance [d]: variance of the INT8 keys per channel. One portable version: float64, in channel order.
bool QuantizeQueryCoarse(const float* x, const float* k_variance, float estimate_multiplier, int d, int8_t* out);

// INT8 steps per unit of that row: what QuantizeQueryCoarse multiplies with; 0 for a row that becomes zeros, negative
// if a value is not finite.
double CoarseStep(const float* x, const float* k_variance, float estimate_multiplier, int d);

// Puts an INT8 row into row `row` of a page's k_u8. d_padded = PaddedBytes(d); channels from d on are written as 128.
void PackKey(const int8_t* key, int d, int row, uint8_t* k_u8);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_QUANTIZE_QUANTIZE_H_
