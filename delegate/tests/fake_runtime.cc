#include "tests/fake_runtime.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <set>

namespace shadow::testing {
namespace {

tflite::IntArray* MakeArray(const std::vector<int>& values) {
  auto* array = static_cast<tflite::IntArray*>(std::malloc(sizeof(int) * (values.size() + 1)));
  array->size = static_cast<int>(values.size());
  std::copy(values.begin(), values.end(), array->data);
  return array;
}

size_t ByteCount(const tflite::Tensor& tensor) {
  size_t bytes = tensor.type == tflite::kInt8 || tensor.type == tflite::kUInt8 ? 1
                 : tensor.type == tflite::kInt64                               ? 8
                                                                               : 4;
  for (int i = 0; i < tensor.dims->size; ++i) bytes *= static_cast<size_t>(std::max(tensor.dims->data[i], 0));
  return bytes;
}

}  // namespace

FakeRuntime::FakeRuntime() {
  context_.impl = this;
  context_.get_execution_plan = GetPlan;
  context_.get_node_and_registration = GetNode;
  context_.resize_tensor = Resize;
  context_.report_error = ReportError;
  context_.replace_node_subsets = Replace;
}

FakeRuntime::~FakeRuntime() {
  for (Kernel& kernel : kernels_) kernel.registration.free(&context_, kernel.node.user_data);
  for (tflite::Tensor& tensor : tensors_) {
    std::free(tensor.data);
    std::free(tensor.dims);
  }
  for (auto& owned : nodes_) {
    std::free(owned->node.inputs);
    std::free(owned->node.outputs);
  }
  std::free(plan_);
}

int FakeRuntime::AddTensor(tflite::Type type, const std::vector<int>& dims) {
  tflite::Tensor tensor{};
  tensor.type = type;
  tensor.dims = MakeArray(dims);
  tensor.allocation_type = tflite::kArenaRw;
  tensors_.push_back(tensor);
  Allocate(static_cast<int>(tensors_.size()) - 1);
  return static_cast<int>(tensors_.size()) - 1;
}

void FakeRuntime::Allocate(int index) {
  tflite::Tensor& tensor = tensors_[index];
  std::free(tensor.data);
  tensor.bytes = ByteCount(tensor);
  tensor.data = std::calloc(std::max<size_t>(tensor.bytes, 1), 1);
}

std::vector<int> FakeRuntime::dims(int index) const {
  const tflite::IntArray* dims = tensors_[index].dims;
  return std::vector<int>(dims->data, dims->data + dims->size);
}

void FakeRuntime::SetDims(int index, const std::vector<int>& dims) {
  std::free(tensors_[index].dims);
  tensors_[index].dims = MakeArray(dims);
  Allocate(index);
}

int FakeRuntime::AddNode(const char* custom_name, const Bytes& options, const std::vector<int>& inputs,
                         const std::vector<int>& outputs) {
  auto owned = std::make_unique<OwnedNode>();
  owned->name = custom_name;
  owned->options = options;
  owned->node.inputs = MakeArray(inputs);
  owned->node.outputs = MakeArray(outputs);
  owned->node.custom_initial_data = owned->options.data();
  owned->node.custom_initial_data_size = static_cast<int>(options.size());
  owned->registration.builtin_code = tflite::kBuiltinCustom;
  owned->registration.custom_name = owned->name.c_str();
  nodes_.push_back(std::move(owned));
  return static_cast<int>(nodes_.size()) - 1;
}

int FakeRuntime::AddBuiltinNode(int32_t code, const std::vector<int>& inputs, const std::vector<int>& outputs) {
  const int index = AddNode("", {}, inputs, outputs);
  nodes_.back()->registration.builtin_code = code;
  nodes_.back()->registration.custom_name = nullptr;
  return index;
}

bool FakeRuntime::Apply(tflite::Delegate* delegate) {
  context_.tensors = tensors_.data();
  context_.tensors_size = tensors_.size();
  std::vector<int> order;
  for (size_t i = 0; i < nodes_.size(); ++i) order.push_back(static_cast<int>(i));
  std::free(plan_);
  plan_ = MakeArray(order);
  error_.clear();
  return delegate->prepare(&context_, delegate) == tflite::kOk && Prepare();
}

bool FakeRuntime::Prepare() {
  error_.clear();
  return std::all_of(kernels_.begin(), kernels_.end(),
                     [&](Kernel& k) { return k.registration.prepare(&context_, &k.node) == tflite::kOk; });
}

bool FakeRuntime::Invoke() {
  error_.clear();
  return std::all_of(kernels_.begin(), kernels_.end(),
                     [&](Kernel& k) { return k.registration.invoke(&context_, &k.node) == tflite::kOk; });
}

tflite::ReturnCode FakeRuntime::GetPlan(tflite::Context* context, tflite::IntArray** plan) {
  *plan = From(context)->plan_;
  return tflite::kOk;
}

tflite::ReturnCode FakeRuntime::GetNode(tflite::Context* context, int index, tflite::Node** node,
                                        tflite::Registration** registration) {
  OwnedNode* owned = From(context)->nodes_.at(static_cast<size_t>(index)).get();
  *node = &owned->node;
  *registration = &owned->registration;
  return tflite::kOk;
}

tflite::ReturnCode FakeRuntime::Resize(tflite::Context* context, tflite::Tensor* tensor, tflite::IntArray* dims) {
  FakeRuntime* self = From(context);
  ++self->resizes_;
  std::free(tensor->dims);
  tensor->dims = dims;
  self->Allocate(static_cast<int>(tensor - self->tensors_.data()));
  return tflite::kOk;
}

// Neighbours in the plan become one partition, as TFLite makes of nodes that depend on nothing in between.
tflite::ReturnCode FakeRuntime::Replace(tflite::Context* context, tflite::Registration registration,
                                        const tflite::IntArray* nodes, tflite::Delegate* delegate) {
  std::vector<int> group;
  for (int i = 0; i < nodes->size; ++i) {
    if (!group.empty() && nodes->data[i] != group.back() + 1) {
      From(context)->AddKernel(registration, group, delegate);
      group.clear();
    }
    group.push_back(nodes->data[i]);
  }
  From(context)->AddKernel(registration, group, delegate);
  return tflite::kOk;
}

void FakeRuntime::AddKernel(const tflite::Registration& registration, const std::vector<int>& nodes,
                            tflite::Delegate* delegate) {
  const std::set<int> inside(nodes.begin(), nodes.end());
  std::set<int> read_outside(graph_outputs_.begin(), graph_outputs_.end());
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const tflite::IntArray* inputs = nodes_[i]->node.inputs;
    if (inside.count(static_cast<int>(i)) == 0) read_outside.insert(inputs->data, inputs->data + inputs->size);
  }
  std::vector<int> outputs;
  for (int index : nodes) {
    const tflite::IntArray* list = nodes_[static_cast<size_t>(index)]->node.outputs;
    for (int i = 0; i < list->size; ++i) {
      const int tensor = list->data[i];
      if (read_outside.count(tensor) > 0) {
        outputs.push_back(tensor);
      } else if (tensor >= 0) {
        std::free(tensors_[static_cast<size_t>(tensor)].data);
        tensors_[static_cast<size_t>(tensor)].data = nullptr;
      }
    }
  }
  tflite::DelegateParams params{delegate, MakeArray(nodes), MakeArray({}), MakeArray(outputs)};
  Kernel kernel{registration, {}};
  kernel.node.user_data = registration.init(&context_, reinterpret_cast<const char*>(&params), 0);
  std::free(params.nodes_to_replace);
  std::free(params.input_tensors);
  std::free(params.output_tensors);
  kernels_.push_back(kernel);
}

void FakeRuntime::ReportError(tflite::Context* context, const char* format, ...) {
  char text[2048];
  va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof(text), format, args);
  va_end(args);
  From(context)->error_ += text;
}

}  // namespace shadow::testing
