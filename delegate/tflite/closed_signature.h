// What becomes of a subgraph whose signature will not run. XNNPACK packs its own copy of the weights for every subgraph
// that it can delegate, run or not; it is asked after us, so what we claim costs nothing there (docs/op_spec.md,
// signatures).
#ifndef SHADOWATTN_DELEGATE_TFLITE_CLOSED_SIGNATURE_H_
#define SHADOWATTN_DELEGATE_TFLITE_CLOSED_SIGNATURE_H_

#include <string>

#include "tflite/tflite_abi.h"

namespace shadow {

// The subgraph's signature: what precedes ':' in the name of its tensor 0, or "".
std::string SignatureOf(const tflite::Context& context);

// A delegate kernel for the nodes of a closed signature: prepares, and fails by name when it is invoked.
tflite::Registration ClosedSignatureKernel();

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_TFLITE_CLOSED_SIGNATURE_H_
