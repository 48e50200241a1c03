// What the delegate asks of an op: a node of the graph, decoded. State lives in the engine's caches, never here.
#ifndef SHADOWATTN_DELEGATE_OP_H_
#define SHADOWATTN_DELEGATE_OP_H_

#include "engine.h"
#include "node_io.h"
#include "op_options.h"
#include "status.h"

namespace shadow {

class Op {
 public:
  Op(const OpOptions& options, const NodeIo& io) : options_(options), io_(io) {}
  virtual ~Op() = default;

  Status PrepareIn(tflite::Context* context) {
    io_.Use(context);
    return Prepare();
  }
  Status EvalIn(tflite::Context* context, Engine* engine) {
    io_.Use(context);
    return Eval(engine);
  }

 protected:
  virtual Status Prepare() = 0;
  virtual Status Eval(Engine* engine) = 0;

  const OpOptions options_;
  NodeIo io_;
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_OP_H_
