// ShadowKvAppend: appends a chunk to a cache and hands out what the estimate graph needs (docs/op_spec.md).
#ifndef SHADOWATTN_DELEGATE_KV_APPEND_OP_H_
#define SHADOWATTN_DELEGATE_KV_APPEND_OP_H_

#include <memory>

#include "op.h"
#include "op_inputs.h"

namespace shadow {

inline constexpr char kKvAppendName[] = "ShadowKvAppend";

class KvAppendOp : public Op {
 public:
  // Refuses options whose flags are not LAYER_INPUT, or without a bucket length.
  static Status Create(const OpOptions& options, const NodeIo& io, std::unique_ptr<Op>* op);

 private:
  // Where the outputs lie, looked up before the cache changes.
  struct Outputs {
    int32_t* kv_len;
    int8_t* q_i8;
    int8_t* k_i8;
  };

  using Op::Op;
  Status Prepare() override;
  Status Eval(Engine* engine) override;
  Status FindOutputs(int64_t time, Outputs* outputs);
  Status Append(const OpInputs& in, const Outputs& out, Engine* engine, KvCache* cache);
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KV_APPEND_OP_H_
