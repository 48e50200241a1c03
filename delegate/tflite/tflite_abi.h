// The few C structs of TensorFlow Lite that an external delegate touches, declared by us because no package ships them
// (docs/architecture.md). The layout is TFLite 2.14's, which no runtime since has changed; the checks at the end pin
// it, and tests/abi_check.cc compares each field with the original headers.
#ifndef SHADOWATTN_DELEGATE_TFLITE_TFLITE_ABI_H_
#define SHADOWATTN_DELEGATE_TFLITE_TFLITE_ABI_H_

#include <cstddef>
#include <cstdint>

namespace shadow::tflite {

enum ReturnCode : int { kOk = 0, kError = 1 };

enum Type : int { kNoType = 0, kFloat32 = 1, kInt32 = 2, kUInt8 = 3, kInt64 = 4, kInt16 = 7, kInt8 = 9, kFloat16 = 10 };

enum AllocationType : int { kArenaRw = 2, kDynamic = 4 };

inline constexpr int32_t kBuiltinFullyConnected = 9;
inline constexpr int32_t kBuiltinCustom = 32;
inline constexpr int32_t kBuiltinDelegate = 51;
// Any other value makes the runtime refuse our nodes before it asks the delegate.
inline constexpr int64_t kAllowDynamicTensors = 1;

// Made with malloc: the runtime frees it with free.
struct IntArray {
  int size;
  int data[];
};

struct Delegate;
struct Registration;

struct QuantizationParams {
  float scale;
  int32_t zero_point;
};

struct Quantization {
  int type;
  void* params;
};

struct Tensor {
  Type type;
  void* data;
  IntArray* dims;
  QuantizationParams params;
  AllocationType allocation_type;
  size_t bytes;
  const void* allocation;
  const char* name;
  Delegate* delegate;
  int buffer_handle;
  bool data_is_stale;
  bool is_variable;
  Quantization quantization;
  void* sparsity;
  const IntArray* dims_signature;
};

struct Node {
  IntArray* inputs;
  IntArray* outputs;
  IntArray* intermediates;
  IntArray* temporaries;
  void* user_data;
  void* builtin_data;
  const void* custom_initial_data;
  int custom_initial_data_size;
  Delegate* delegate;
  bool might_have_side_effect;
};

using UnusedFn = void (*)();

struct Context {
  size_t tensors_size;
  ReturnCode (*get_execution_plan)(Context* context, IntArray** plan);
  Tensor* tensors;
  void* impl;
  ReturnCode (*resize_tensor)(Context* context, Tensor* tensor, IntArray* new_size);  // takes new_size over
  void (*report_error)(Context* context, const char* format, ...);
  UnusedFn add_tensors;
  ReturnCode (*get_node_and_registration)(Context* context, int index, Node** node, Registration** registration);
  ReturnCode (*replace_node_subsets)(Context* context, Registration registration, const IntArray* nodes,
                                     Delegate* delegate);
  int recommended_num_threads;
  UnusedFn get_external_context;
  UnusedFn set_external_context;
  bool allow_fp32_relax_to_fp16;
  void* profiler;
  UnusedFn memory_functions[4];
  UnusedFn resize_tensor_explicit;
  UnusedFn preview_partitioning;
  UnusedFn get_tensor;
  UnusedFn get_eval_tensor;
  UnusedFn get_model_metadata;
  UnusedFn acquire_subgraph;
  UnusedFn release_subgraph;
};

// Passed by value to replace_node_subsets, so its size matters as much as its fields.
struct Registration {
  void* (*init)(Context* context, const char* buffer, size_t length);
  void (*free)(Context* context, void* user_data);
  ReturnCode (*prepare)(Context* context, Node* node);
  ReturnCode (*invoke)(Context* context, Node* node);
  UnusedFn profiling_string;
  int32_t builtin_code;
  const char* custom_name;
  int version;
  void* registration_external;
  UnusedFn async_kernel;
  uint64_t inplace_operator;
};

// What a delegate kernel's init gets as its buffer.
struct DelegateParams {
  Delegate* delegate;
  IntArray* nodes_to_replace;
  IntArray* input_tensors;
  IntArray* output_tensors;
};

struct Delegate {
  void* data;
  ReturnCode (*prepare)(Context* context, Delegate* delegate);
  UnusedFn copy_from_buffer_handle;
  UnusedFn copy_to_buffer_handle;
  UnusedFn free_buffer_handle;
  int64_t flags;
  void* opaque_delegate_builder;
};

#if UINTPTR_MAX == UINT64_MAX
static_assert(sizeof(Tensor) == 112 && sizeof(Node) == 80 && sizeof(Context) == 200, "TFLite ABI");
static_assert(sizeof(Registration) == 88 && sizeof(Delegate) == 56 && sizeof(DelegateParams) == 32, "TFLite ABI");
static_assert(offsetof(IntArray, data) == 4, "TFLite ABI");
static_assert(offsetof(Tensor, data) == 8 && offsetof(Tensor, dims) == 16 && offsetof(Tensor, params) == 24,
              "TFLite ABI");
static_assert(offsetof(Tensor, allocation_type) == 32 && offsetof(Tensor, bytes) == 40, "TFLite ABI");
static_assert(offsetof(Tensor, name) == 56 && offsetof(Tensor, delegate) == 64, "TFLite ABI");
static_assert(offsetof(Tensor, buffer_handle) == 72 && offsetof(Tensor, data_is_stale) == 76, "TFLite ABI");
static_assert(offsetof(Tensor, quantization) == 80 && offsetof(Tensor, dims_signature) == 104, "TFLite ABI");
static_assert(offsetof(Node, outputs) == 8 && offsetof(Node, user_data) == 32, "TFLite ABI");
static_assert(offsetof(Node, custom_initial_data) == 48 && offsetof(Node, custom_initial_data_size) == 56,
              "TFLite ABI");
static_assert(offsetof(Node, delegate) == 64 && offsetof(Node, might_have_side_effect) == 72, "TFLite ABI");
static_assert(offsetof(Context, get_execution_plan) == 8 && offsetof(Context, tensors) == 16, "TFLite ABI");
static_assert(offsetof(Context, resize_tensor) == 32 && offsetof(Context, report_error) == 40, "TFLite ABI");
static_assert(offsetof(Context, get_node_and_registration) == 56, "TFLite ABI");
static_assert(offsetof(Context, replace_node_subsets) == 64, "TFLite ABI");
static_assert(offsetof(Context, recommended_num_threads) == 72 && offsetof(Context, profiler) == 104, "TFLite ABI");
static_assert(offsetof(Context, memory_functions) == 112 && offsetof(Context, release_subgraph) == 192, "TFLite ABI");
static_assert(offsetof(Registration, free) == 8 && offsetof(Registration, prepare) == 16, "TFLite ABI");
static_assert(offsetof(Registration, invoke) == 24 && offsetof(Registration, builtin_code) == 40, "TFLite ABI");
static_assert(offsetof(Registration, custom_name) == 48 && offsetof(Registration, version) == 56, "TFLite ABI");
static_assert(offsetof(Registration, inplace_operator) == 80, "TFLite ABI");
static_assert(offsetof(Delegate, prepare) == 8 && offsetof(Delegate, flags) == 40, "TFLite ABI");
static_assert(offsetof(Delegate, opaque_delegate_builder) == 48, "TFLite ABI");
#endif

}  // namespace shadow::tflite

#endif  // SHADOWATTN_DELEGATE_TFLITE_TFLITE_ABI_H_
