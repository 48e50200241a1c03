// The tensors of one node during one call: checked access, so that no op touches memory that the runtime did not
// promise.
#ifndef SHADOWATTN_DELEGATE_TFLITE_NODE_IO_H_
#define SHADOWATTN_DELEGATE_TFLITE_NODE_IO_H_

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "base/status.h"
#include "tflite/tflite_abi.h"

namespace shadow {

inline constexpr int kAnySize = -1;

class NodeIo {
 public:
  NodeIo(tflite::Context* context, const std::vector<int>& inputs, const std::vector<int>& outputs)
      : context_(context), inputs_(inputs), outputs_(outputs) {}

  Status CheckCounts(size_t inputs, size_t outputs) const;
  // dims: kAnySize leaves a dimension open (it must still be positive).
  Status CheckInput(int index, const char* name, tflite::Type type, std::initializer_list<int64_t> dims) const;
  // Prepare: gives an output its static shape. Resizes only when that differs: XNNPACK leaves graphs with dynamic
  // tensors.
  Status ShapeOutput(int index, const char* name, tflite::Type type, std::initializer_list<int64_t> dims);
  int64_t InputDim(int index, int dim) const { return Input(index).dims->data[dim]; }

  // Eval: data of `count` elements, or a refusal.
  template <typename T>
  Status Read(int index, const char* name, int64_t count, const T** data) const {
    const void* memory = nullptr;
    SHADOW_RETURN_IF_ERROR(Find(inputs_[index], name, count * int64_t{sizeof(T)}, &memory));
    *data = static_cast<const T*>(memory);
    return Status::Ok();
  }
  Status ReadScalar(int index, const char* name, int32_t* value) const;
  template <typename T>
  Status Write(int index, const char* name, int64_t count, T** data) {
    const void* memory = nullptr;
    SHADOW_RETURN_IF_ERROR(Find(outputs_[index], name, count * int64_t{sizeof(T)}, &memory));
    *data = static_cast<T*>(const_cast<void*>(memory));
    return Status::Ok();
  }

 private:
  const tflite::Tensor& Input(int index) const { return context_->tensors[inputs_[index]]; }
  Status Find(int tensor, const char* name, int64_t bytes, const void** memory) const;

  tflite::Context* const context_;
  const std::vector<int>& inputs_;
  const std::vector<int>& outputs_;
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_TFLITE_NODE_IO_H_
