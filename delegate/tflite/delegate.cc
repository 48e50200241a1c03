#include "tflite/delegate.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "base/last_error.h"
#include "tflite/closed_signature.h"
#include "tflite/sparse_attention_op.h"

namespace shadow {
namespace {

std::vector<int> ToVector(const tflite::IntArray* array) {
  return array == nullptr ? std::vector<int>() : std::vector<int>(array->data, array->data + array->size);
}

bool IsOurs(const tflite::Registration& registration) {
  const char* name = registration.custom_name;
  return registration.builtin_code == tflite::kBuiltinCustom && name != nullptr &&
         std::strcmp(name, kSparseAttentionName) == 0;
}

tflite::ReturnCode Report(tflite::Context* context, const Status& status) {
  if (status.ok()) return tflite::kOk;
  SetLastError(status.message().c_str());
  context->report_error(context, "%s", status.message().c_str());
  return tflite::kError;
}

// One partition of a subgraph: our nodes in execution order.
class DelegateKernel {
 public:
  DelegateKernel(tflite::Context* context, const tflite::DelegateParams& params)
      : engine_(ShadowDelegate::From(params.delegate)->engine()) {
    status_ = AddNodes(context, ToVector(params.nodes_to_replace));
  }

  Status Prepare(tflite::Context* context) {
    SHADOW_RETURN_IF_ERROR(Status(status_));
    for (const Entry& entry : entries_) {
      if (engine_->options().verbosity >= 2) std::fprintf(stderr, "shadowattn: prepare %s\n", entry.label.c_str());
      SHADOW_RETURN_IF_ERROR(entry.op.Prepare(context).In(entry.label));
    }
    return Status::Ok();
  }

  Status Eval(tflite::Context* context) {
    for (const Entry& entry : entries_) SHADOW_RETURN_IF_ERROR(entry.op.Eval(context, engine_.get()).In(entry.label));
    return Status::Ok();
  }

 private:
  struct Entry {
    std::string label;
    SparseAttentionOp op;
  };

  Status AddNodes(tflite::Context* context, const std::vector<int>& indices) {
    for (int index : indices) {
      tflite::Node* node = nullptr;
      tflite::Registration* registration = nullptr;
      if (context->get_node_and_registration(context, index, &node, &registration) != tflite::kOk) {
        return Status::Error("the runtime does not give out node %d", index);
      }
      SHADOW_RETURN_IF_ERROR(AddNode(index, *node));
    }
    return Status::Ok();
  }

  Status AddNode(int index, const tflite::Node& node) {
    OpOptions options;
    const auto size = static_cast<size_t>(std::max(node.custom_initial_data_size, 0));
    SHADOW_RETURN_IF_ERROR(DecodeOpOptions(node.custom_initial_data, size, &options).In(Label("node", index)));
    entries_.push_back({Label("layer", options.layer), {options, ToVector(node.inputs), ToVector(node.outputs)}});
    return Status::Ok();
  }

  static std::string Label(const char* what, int number) {
    return std::string(kSparseAttentionName) + " (" + what + " " + std::to_string(number) + ")";
  }

  const std::shared_ptr<Engine> engine_;
  std::vector<Entry> entries_;
  Status status_ = Status::Ok();  // of decoding: the runtime lets only Prepare refuse
};

void* KernelInit(tflite::Context* context, const char* buffer, size_t) {
  DelegateKernel* kernel = nullptr;
  const Status status = Guarded([&] {
    kernel = new DelegateKernel(context, *reinterpret_cast<const tflite::DelegateParams*>(buffer));
    return Status::Ok();
  });
  if (!status.ok()) Report(context, status);
  return kernel;
}

void KernelFree(tflite::Context*, void* user_data) { delete static_cast<DelegateKernel*>(user_data); }

tflite::ReturnCode KernelPrepare(tflite::Context* context, tflite::Node* node) {
  auto* kernel = static_cast<DelegateKernel*>(node->user_data);
  if (kernel == nullptr) return tflite::kError;  // KernelInit has reported why
  return Report(context, Guarded([&] { return kernel->Prepare(context); }));
}

tflite::ReturnCode KernelInvoke(tflite::Context* context, tflite::Node* node) {
  auto* kernel = static_cast<DelegateKernel*>(node->user_data);
  if (kernel == nullptr) return tflite::kError;
  return Report(context, Guarded([&] { return kernel->Eval(context); }));
}

// Which nodes of a subgraph are claimed: ours where its signature is open, else all but one that has no weights. (A
// runtime that finds its first subgraph delegated as a whole applies XNNPACK to no subgraph at all.)
class Claim {
 public:
  explicit Claim(bool open) : open_(open) {}
  bool Takes(const tflite::Registration& registration) {
    if (IsOurs(registration)) return true;
    if (open_) return false;
    if (left_one_ || registration.builtin_code == tflite::kBuiltinFullyConnected) return true;
    left_one_ = true;
    return false;
  }

 private:
  const bool open_;
  bool left_one_ = false;
};

// The nodes to claim in the subgraph that `context` stands for, as an IntArray (its size first).
Status FindNodes(tflite::Context* context, bool open, int verbosity, std::vector<int>* claimed) {
  tflite::IntArray* plan = nullptr;
  if (context->get_execution_plan(context, &plan) != tflite::kOk || plan == nullptr) {
    return Status::Error("the runtime does not give out its execution plan");
  }
  claimed->assign(1, 0);
  std::string names;
  Claim claim(open);
  for (int i = 0; i < plan->size; ++i) {
    tflite::Node* node = nullptr;
    tflite::Registration* registration = nullptr;
    if (context->get_node_and_registration(context, plan->data[i], &node, &registration) != tflite::kOk) {
      return Status::Error("the runtime does not give out node %d", plan->data[i]);
    }
    if (!claim.Takes(*registration)) continue;
    claimed->push_back(plan->data[i]);
    if (IsOurs(*registration)) names += " " + std::to_string(plan->data[i]) + ":" + registration->custom_name;
  }
  claimed->front() = static_cast<int>(claimed->size()) - 1;
  if (verbosity >= 1) {
    std::fprintf(stderr, "shadowattn: claimed %d of %d nodes of a subgraph:%s\n", claimed->front(), plan->size,
                 names.c_str());
  }
  return Status::Ok();
}

tflite::ReturnCode DelegatePrepare(tflite::Context* context, tflite::Delegate* delegate) {
  std::vector<int> claimed;
  bool open = true;
  const Status status = Guarded([&] {
    Engine& engine = *ShadowDelegate::From(delegate)->engine();
    open = engine.signatures().IsOpen(SignatureOf(*context));
    return FindNodes(context, open, open ? engine.options().verbosity : 0, &claimed);
  });
  if (!status.ok()) return Report(context, status);
  if (claimed.front() == 0) return tflite::kOk;
  if (!open) {
    return context->replace_node_subsets(context, ClosedSignatureKernel(),
                                         reinterpret_cast<tflite::IntArray*>(claimed.data()), delegate);
  }
  tflite::Registration registration{};
  registration.init = KernelInit;
  registration.free = KernelFree;
  registration.prepare = KernelPrepare;
  registration.invoke = KernelInvoke;
  registration.builtin_code = tflite::kBuiltinDelegate;
  registration.custom_name = "ShadowDelegate";
  registration.version = 1;
  return context->replace_node_subsets(context, registration, reinterpret_cast<tflite::IntArray*>(claimed.data()),
                                       delegate);
}

}  // namespace

ShadowDelegate::ShadowDelegate(std::shared_ptr<Engine> engine) : engine_(std::move(engine)) {
  base_.data = this;
  base_.prepare = DelegatePrepare;
  base_.flags = tflite::kAllowDynamicTensors;
}

}  // namespace shadow
