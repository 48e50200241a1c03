// As much of TFLite as a delegate meets: tensors, nodes, partitioning, and Prepare and Invoke of the delegate kernels.
// Every tensor is an allocation of exactly its size, so that a sanitizer finds each stray access.
#ifndef SHADOWATTN_DELEGATE_TESTS_FAKE_RUNTIME_H_
#define SHADOWATTN_DELEGATE_TESTS_FAKE_RUNTIME_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/format_bytes.h"
#include "tflite/tflite_abi.h"

namespace shadow::testing {

class FakeRuntime {
 public:
  FakeRuntime();
  ~FakeRuntime();
  FakeRuntime(const FakeRuntime&) = delete;
  FakeRuntime& operator=(const FakeRuntime&) = delete;

  int AddTensor(tflite::Type type, const std::vector<int>& dims);
  int AddNode(const char* custom_name, const Bytes& options, const std::vector<int>& inputs,
              const std::vector<int>& outputs);
  int AddBuiltinNode(int32_t code, const std::vector<int>& inputs, const std::vector<int>& outputs);
  // The tensors somebody outside reads; others between our nodes get no memory, as in TFLite.
  void SetGraphOutputs(const std::vector<int>& tensors) { graph_outputs_ = tensors; }

  // Lets the delegate claim, then prepares. False: error() says why.
  bool Apply(tflite::Delegate* delegate);
  bool Prepare();
  bool Invoke();

  template <typename T>
  T* data(int tensor) {
    return static_cast<T*>(tensors_[tensor].data);
  }
  tflite::Tensor& tensor(int index) { return tensors_[index]; }
  std::vector<int> dims(int index) const;
  void SetDims(int index, const std::vector<int>& dims);  // and a new allocation
  const std::string& error() const { return error_; }
  int resizes() const { return resizes_; }
  int partitions() const { return static_cast<int>(kernels_.size()); }

 private:
  struct OwnedNode {
    tflite::Node node{};
    tflite::Registration registration{};
    Bytes options;
    std::string name;
  };
  struct Kernel {
    tflite::Registration registration;
    tflite::Node node;
  };

  static FakeRuntime* From(tflite::Context* context) { return static_cast<FakeRuntime*>(context->impl); }
  static tflite::ReturnCode GetPlan(tflite::Context* context, tflite::IntArray** plan);
  static tflite::ReturnCode GetNode(tflite::Context* context, int index, tflite::Node** node,
                                    tflite::Registration** registration);
  static tflite::ReturnCode Resize(tflite::Context* context, tflite::Tensor* tensor, tflite::IntArray* dims);
  static tflite::ReturnCode Replace(tflite::Context* context, tflite::Registration registration,
                                    const tflite::IntArray* nodes, tflite::Delegate* delegate);
  static void ReportError(tflite::Context* context, const char* format, ...) __attribute__((format(printf, 2, 3)));
  void AddKernel(const tflite::Registration& registration, const std::vector<int>& nodes, tflite::Delegate* delegate);
  void Allocate(int index);

  tflite::Context context_{};
  std::vector<tflite::Tensor> tensors_;
  std::vector<std::unique_ptr<OwnedNode>> nodes_;
  std::vector<int> graph_outputs_;
  std::vector<Kernel> kernels_;
  tflite::IntArray* plan_ = nullptr;
  std::string error_;
  int resizes_ = 0;
};

}  // namespace shadow::testing

#endif  // SHADOWATTN_DELEGATE_TESTS_FAKE_RUNTIME_H_
