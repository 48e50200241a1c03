// ShadowSparseAttention: appends a chunk's k and v to a cache and attends (docs/op_spec.md). What outlives a call is in
// the engine's caches, never here.
#ifndef SHADOWATTN_DELEGATE_TFLITE_SPARSE_ATTENTION_OP_H_
#define SHADOWATTN_DELEGATE_TFLITE_SPARSE_ATTENTION_OP_H_

#include <utility>
#include <vector>

#include "base/status.h"
#include "config/op_options.h"
#include "engine/engine.h"
#include "tflite/node_io.h"

namespace shadow {

inline constexpr char kSparseAttentionName[] = "ShadowSparseAttention";

// One node of a graph. inputs and outputs: indices of its tensors.
class SparseAttentionOp {
 public:
  SparseAttentionOp(const OpOptions& options, std::vector<int> inputs, std::vector<int> outputs)
      : options_(options), inputs_(std::move(inputs)), outputs_(std::move(outputs)) {}

  // Checks the shapes of the inputs and gives the output its own.
  Status Prepare(tflite::Context* context) const;
  Status Eval(tflite::Context* context, Engine* engine) const;

 private:
  Status CheckShapes(const NodeIo& io) const;

  const OpOptions options_;
  const std::vector<int> inputs_;
  const std::vector<int> outputs_;
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_TFLITE_SPARSE_ATTENTION_OP_H_
