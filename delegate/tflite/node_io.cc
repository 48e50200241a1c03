#include "tflite/node_io.h"

#include <cstdlib>
#include <limits>
#include <string>

namespace shadow {
namespace {

const char* TypeName(tflite::Type type) {
  switch (type) {
    case tflite::kFloat32:
      return "float32";
    case tflite::kInt32:
      return "int32";
    case tflite::kInt8:
      return "int8";
    case tflite::kUInt8:
      return "uint8";
    case tflite::kInt16:
      return "int16";
    case tflite::kInt64:
      return "int64";
    case tflite::kFloat16:
      return "float16";
    default:
      return "another type";
  }
}

template <typename Dims>
std::string ShapeText(const Dims* dims, size_t size) {
  std::string text = "[";
  for (size_t i = 0; i < size; ++i) {
    if (i > 0) text += ',';
    text += dims[i] == kAnySize ? "any" : std::to_string(dims[i]);
  }
  return text + "]";
}

bool Matches(const tflite::IntArray& have, std::initializer_list<int64_t> want) {
  if (have.size != static_cast<int>(want.size())) return false;
  const int* dim = have.data;
  for (int64_t size : want) {
    if (*dim < 1 || (size != kAnySize && *dim != size)) return false;
    ++dim;
  }
  return true;
}

Status CheckTensor(const tflite::Tensor& tensor, const char* name, tflite::Type type,
                   std::initializer_list<int64_t> dims) {
  if (tensor.type != type) {
    return Status::Error("%s must be %s, got %s; convert the model again", name, TypeName(type), TypeName(tensor.type));
  }
  if (tensor.dims == nullptr || !Matches(*tensor.dims, dims)) {
    const std::string have = tensor.dims ? ShapeText(tensor.dims->data, tensor.dims->size) : "none";
    return Status::Error("%s must have shape %s, got %s; convert the model again", name,
                         ShapeText(dims.begin(), dims.size()).c_str(), have.c_str());
  }
  return Status::Ok();
}

}  // namespace

Status NodeIo::CheckCounts(size_t inputs, size_t outputs) const {
  if (inputs_.size() != inputs || outputs_.size() != outputs) {
    return Status::Error("expected %zu inputs and %zu outputs, got %zu and %zu; convert the model again", inputs,
                         outputs, inputs_.size(), outputs_.size());
  }
  for (const std::vector<int>* list : {&inputs_, &outputs_}) {
    for (int tensor : *list) {
      if (tensor < 0 || size_t(tensor) >= context_->tensors_size) {
        return Status::Error("an input or output is missing (tensor index %d); convert the model again", tensor);
      }
    }
  }
  return Status::Ok();
}

Status NodeIo::CheckInput(int index, const char* name, tflite::Type type, std::initializer_list<int64_t> dims) const {
  return CheckTensor(Input(index), name, type, dims);
}

Status NodeIo::ShapeOutput(int index, const char* name, tflite::Type type, std::initializer_list<int64_t> dims) {
  tflite::Tensor* tensor = &context_->tensors[outputs_[index]];
  if (tensor->type != type) {
    return Status::Error("output %s must be %s, got %s; convert the model again", name, TypeName(type),
                         TypeName(tensor->type));
  }
  for (int64_t size : dims) {
    if (size > std::numeric_limits<int>::max()) return Status::Error("output %s is too large", name);
  }
  if (tensor->dims != nullptr && Matches(*tensor->dims, dims)) return Status::Ok();
  auto* size = static_cast<tflite::IntArray*>(std::malloc(sizeof(int) * (dims.size() + 1)));
  if (size == nullptr) return Status::Error("out of memory");
  size->size = 0;
  for (int64_t dim : dims) size->data[size->size++] = static_cast<int>(dim);
  if (context_->resize_tensor(context_, tensor, size) != tflite::kOk) {
    return Status::Error("the runtime refused to shape output %s", name);
  }
  return Status::Ok();
}

Status NodeIo::ReadScalar(int index, const char* name, int32_t* value) const {
  const int32_t* data = nullptr;
  SHADOW_RETURN_IF_ERROR(Read(index, name, 1, &data));
  *value = *data;
  return Status::Ok();
}

Status NodeIo::Find(int tensor, const char* name, int64_t bytes, const void** memory) const {
  const tflite::Tensor& t = context_->tensors[tensor];
  if (t.data == nullptr || t.bytes < size_t(bytes)) {
    return Status::Error("%s has %zu bytes of data where %lld are needed; set the input, or allocate tensors again",
                         name, t.data == nullptr ? size_t{0} : t.bytes, static_cast<long long>(bytes));
  }
  *memory = t.data;
  return Status::Ok();
}

}  // namespace shadow
