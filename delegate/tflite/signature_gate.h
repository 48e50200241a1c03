// Which signatures of a file will run. XNNPACK packs its own copy of the weights for every subgraph it can delegate,
// opened or not; it is asked after us, so what we claim costs nothing there (docs/op_spec.md, signatures).
#ifndef SHADOWATTN_DELEGATE_TFLITE_SIGNATURE_GATE_H_
#define SHADOWATTN_DELEGATE_TFLITE_SIGNATURE_GATE_H_

#include <mutex>
#include <set>
#include <string>

#include "tflite/tflite_abi.h"

namespace shadow {

class SignatureGate {
 public:
  // Comma-separated names; "" opens every signature. Holds for interpreters made from now on.
  void Set(const std::string& list);
  // A subgraph without a name is open.
  bool IsOpen(const std::string& signature) const;

 private:
  mutable std::mutex mutex_;
  std::set<std::string> open_;
};

// The subgraph's signature: what precedes ':' in the name of its tensor 0, or "".
std::string SignatureOf(const tflite::Context& context);

// A delegate kernel for the nodes of a closed signature: prepares, and fails by name when it is invoked.
tflite::Registration ClosedSignatureKernel();

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_TFLITE_SIGNATURE_GATE_H_
