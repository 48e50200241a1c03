// ShadowSparseAttention, fused and split form (docs/op_spec.md).
#ifndef SHADOWATTN_DELEGATE_SPARSE_ATTENTION_OP_H_
#define SHADOWATTN_DELEGATE_SPARSE_ATTENTION_OP_H_

#include <memory>

#include "attend_chunk.h"
#include "op.h"
#include "op_inputs.h"

namespace shadow {

inline constexpr char kSparseAttentionName[] = "ShadowSparseAttention";

class SparseAttentionOp : public Op {
 public:
  // Refuses options whose flags are not those of either form.
  static Status Create(const OpOptions& options, const NodeIo& io, std::unique_ptr<Op>* op);

 private:
  using Op::Op;
  bool fused() const { return options_.form == kFormFused; }
  const InputMap& inputs() const;
  Status Prepare() override;
  Status CheckShapes() const;
  Status Eval(Engine* engine) override;
  Status EvalFused(const OpInputs& in, Engine* engine, KvCache* cache);
  Status EvalSplit(const OpInputs& in, Engine* engine, KvCache* cache);
  Status Attend(const OpInputs& in, const GraphScores& scores, Engine* engine, KvCache* cache);
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_SPARSE_ATTENTION_OP_H_
