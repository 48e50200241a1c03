#include "tflite/closed_signature.h"

#include "base/last_error.h"
#include "base/status.h"

namespace shadow {
namespace {

void* Init(tflite::Context* context, const char*, size_t) {
  std::string* name = nullptr;
  const Status status = Guarded([&] {
    name = new std::string(SignatureOf(*context));
    return Status::Ok();
  });
  if (!status.ok()) SetLastError(status.message().c_str());
  return name;
}

void Free(tflite::Context*, void* user_data) { delete static_cast<std::string*>(user_data); }

tflite::ReturnCode Prepare(tflite::Context*, tflite::Node*) { return tflite::kOk; }

tflite::ReturnCode Invoke(tflite::Context* context, tflite::Node* node) {
  const auto* signature = static_cast<const std::string*>(node->user_data);
  const Status status = Status::Error("signature %s was not opened; add it to the delegate's option signatures",
                                      signature == nullptr ? "?" : signature->c_str());
  SetLastError(status.message().c_str());
  context->report_error(context, "%s", status.message().c_str());
  return tflite::kError;
}

}  // namespace

std::string SignatureOf(const tflite::Context& context) {
  if (context.tensors_size == 0 || context.tensors[0].name == nullptr) return "";
  const std::string name = context.tensors[0].name;
  const size_t colon = name.find(':');
  return colon == std::string::npos ? "" : name.substr(0, colon);
}

tflite::Registration ClosedSignatureKernel() {
  tflite::Registration registration{};
  registration.init = Init;
  registration.free = Free;
  registration.prepare = Prepare;
  registration.invoke = Invoke;
  registration.builtin_code = tflite::kBuiltinDelegate;
  registration.custom_name = "ShadowClosedSignature";
  registration.version = 1;
  return registration;
}

}  // namespace shadow
