// Compares tflite_abi.h with TFLite's own C headers, field by field (CMake option SHADOW_TFLITE_HEADERS).
#include "tensorflow/lite/builtin_ops.h"
#include "tensorflow/lite/core/c/common.h"
#include "tests/check.h"
#include "tflite/tflite_abi.h"

using namespace shadow;
using namespace shadow::testing;

#define SAME_SIZE(ours, theirs) CHECK(sizeof(tflite::ours) == sizeof(theirs))
#define SAME_FIELD(ours, our_field, theirs, their_field)                     \
  CHECK(offsetof(tflite::ours, our_field) == offsetof(theirs, their_field)); \
  CHECK(sizeof(tflite::ours::our_field) == sizeof(theirs::their_field))

namespace {

void CheckTensorAndNode() {
  SAME_SIZE(Tensor, TfLiteTensor);
  SAME_FIELD(Tensor, type, TfLiteTensor, type);
  SAME_FIELD(Tensor, data, TfLiteTensor, data);
  SAME_FIELD(Tensor, dims, TfLiteTensor, dims);
  SAME_FIELD(Tensor, params, TfLiteTensor, params);
  SAME_FIELD(Tensor, allocation_type, TfLiteTensor, allocation_type);
  SAME_FIELD(Tensor, bytes, TfLiteTensor, bytes);
  SAME_FIELD(Tensor, allocation, TfLiteTensor, allocation);
  SAME_FIELD(Tensor, name, TfLiteTensor, name);
  SAME_FIELD(Tensor, delegate, TfLiteTensor, delegate);
  SAME_FIELD(Tensor, buffer_handle, TfLiteTensor, buffer_handle);
  SAME_FIELD(Tensor, data_is_stale, TfLiteTensor, data_is_stale);
  SAME_FIELD(Tensor, is_variable, TfLiteTensor, is_variable);
  SAME_FIELD(Tensor, quantization, TfLiteTensor, quantization);
  SAME_FIELD(Tensor, sparsity, TfLiteTensor, sparsity);
  SAME_FIELD(Tensor, dims_signature, TfLiteTensor, dims_signature);
  SAME_SIZE(Node, TfLiteNode);
  SAME_FIELD(Node, inputs, TfLiteNode, inputs);
  SAME_FIELD(Node, outputs, TfLiteNode, outputs);
  SAME_FIELD(Node, intermediates, TfLiteNode, intermediates);
  SAME_FIELD(Node, temporaries, TfLiteNode, temporaries);
  SAME_FIELD(Node, user_data, TfLiteNode, user_data);
  SAME_FIELD(Node, builtin_data, TfLiteNode, builtin_data);
  SAME_FIELD(Node, custom_initial_data, TfLiteNode, custom_initial_data);
  SAME_FIELD(Node, custom_initial_data_size, TfLiteNode, custom_initial_data_size);
  SAME_FIELD(Node, delegate, TfLiteNode, delegate);
  SAME_FIELD(Node, might_have_side_effect, TfLiteNode, might_have_side_effect);
}

void CheckContext() {
  SAME_SIZE(Context, TfLiteContext);
  SAME_FIELD(Context, tensors_size, TfLiteContext, tensors_size);
  SAME_FIELD(Context, get_execution_plan, TfLiteContext, GetExecutionPlan);
  SAME_FIELD(Context, tensors, TfLiteContext, tensors);
  SAME_FIELD(Context, impl, TfLiteContext, impl_);
  SAME_FIELD(Context, resize_tensor, TfLiteContext, ResizeTensor);
  SAME_FIELD(Context, report_error, TfLiteContext, ReportError);
  SAME_FIELD(Context, add_tensors, TfLiteContext, AddTensors);
  SAME_FIELD(Context, get_node_and_registration, TfLiteContext, GetNodeAndRegistration);
  SAME_FIELD(Context, replace_node_subsets, TfLiteContext, ReplaceNodeSubsetsWithDelegateKernels);
  SAME_FIELD(Context, recommended_num_threads, TfLiteContext, recommended_num_threads);
  SAME_FIELD(Context, allow_fp32_relax_to_fp16, TfLiteContext, allow_fp32_relax_to_fp16);
  SAME_FIELD(Context, profiler, TfLiteContext, profiler);
  SAME_FIELD(Context, resize_tensor_explicit, TfLiteContext, ResizeTensorExplicit);
  SAME_FIELD(Context, preview_partitioning, TfLiteContext, PreviewDelegatePartitioning);
  SAME_FIELD(Context, get_tensor, TfLiteContext, GetTensor);
  SAME_FIELD(Context, get_model_metadata, TfLiteContext, GetModelMetadata);
  SAME_FIELD(Context, release_subgraph, TfLiteContext, ReleaseSubgraphContext);
}

void CheckRegistrationAndDelegate() {
  SAME_SIZE(Registration, TfLiteRegistration);
  SAME_FIELD(Registration, init, TfLiteRegistration, init);
  SAME_FIELD(Registration, free, TfLiteRegistration, free);
  SAME_FIELD(Registration, prepare, TfLiteRegistration, prepare);
  SAME_FIELD(Registration, invoke, TfLiteRegistration, invoke);
  SAME_FIELD(Registration, profiling_string, TfLiteRegistration, profiling_string);
  SAME_FIELD(Registration, builtin_code, TfLiteRegistration, builtin_code);
  SAME_FIELD(Registration, custom_name, TfLiteRegistration, custom_name);
  SAME_FIELD(Registration, version, TfLiteRegistration, version);
  SAME_FIELD(Registration, registration_external, TfLiteRegistration, registration_external);
  SAME_FIELD(Registration, async_kernel, TfLiteRegistration, async_kernel);
  SAME_FIELD(Registration, inplace_operator, TfLiteRegistration, inplace_operator);
  SAME_SIZE(Delegate, TfLiteDelegate);
  SAME_FIELD(Delegate, data, TfLiteDelegate, data_);
  SAME_FIELD(Delegate, prepare, TfLiteDelegate, Prepare);
  SAME_FIELD(Delegate, copy_from_buffer_handle, TfLiteDelegate, CopyFromBufferHandle);
  SAME_FIELD(Delegate, copy_to_buffer_handle, TfLiteDelegate, CopyToBufferHandle);
  SAME_FIELD(Delegate, free_buffer_handle, TfLiteDelegate, FreeBufferHandle);
  SAME_FIELD(Delegate, flags, TfLiteDelegate, flags);
  SAME_FIELD(Delegate, opaque_delegate_builder, TfLiteDelegate, opaque_delegate_builder);
  SAME_SIZE(DelegateParams, TfLiteDelegateParams);
  SAME_FIELD(DelegateParams, delegate, TfLiteDelegateParams, delegate);
  SAME_FIELD(DelegateParams, nodes_to_replace, TfLiteDelegateParams, nodes_to_replace);
  SAME_FIELD(DelegateParams, input_tensors, TfLiteDelegateParams, input_tensors);
  SAME_FIELD(DelegateParams, output_tensors, TfLiteDelegateParams, output_tensors);
}

void CheckValues() {
  CHECK(int(tflite::kOk) == int(kTfLiteOk) && int(tflite::kError) == int(kTfLiteError));
  CHECK(int(tflite::kFloat32) == int(kTfLiteFloat32) && int(tflite::kInt32) == int(kTfLiteInt32));
  CHECK(int(tflite::kUInt8) == int(kTfLiteUInt8) && int(tflite::kInt64) == int(kTfLiteInt64));
  CHECK(int(tflite::kInt16) == int(kTfLiteInt16) && int(tflite::kInt8) == int(kTfLiteInt8));
  CHECK(int(tflite::kFloat16) == int(kTfLiteFloat16) && int(tflite::kNoType) == int(kTfLiteNoType));
  CHECK(int(tflite::kArenaRw) == int(kTfLiteArenaRw) && int(tflite::kDynamic) == int(kTfLiteDynamic));
  CHECK(int(tflite::kBuiltinCustom) == int(kTfLiteBuiltinCustom));
  CHECK(int(tflite::kBuiltinFullyConnected) == int(kTfLiteBuiltinFullyConnected));
  CHECK(int(tflite::kBuiltinDelegate) == int(kTfLiteBuiltinDelegate));
  CHECK(int(tflite::kAllowDynamicTensors) == int(kTfLiteDelegateFlagsAllowDynamicTensors));
  CHECK(offsetof(tflite::IntArray, data) == offsetof(TfLiteIntArray, data));
}

}  // namespace

int main() {
  CheckTensorAndNode();
  CheckContext();
  CheckRegistrationAndDelegate();
  CheckValues();
  return Finish();
}
