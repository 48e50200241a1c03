// A stand-in for a vendor's NPU delegate, for tests of what is delegated and of every way it can fail. It claims static
// INT8 BATCH_MATMUL nodes and computes them in plain loops, to the bit as XNNPACK does:
//   score = rint(clamp(float(acc) * m, -128, 127)), m = (scale_a * scale_b) / scale_out in float32, rint to even.
// It is no accelerator: `delay_ms` only emulates the cost of a launch.
//
// Options: claim=all|none|odd (the nodes with an odd index), fail=no|create|prepare|invoke:N (the N-th invoke of the
// delegate, from 1), delay_ms=X (sleep per invoke), flags=0|1 (TFLite's delegate flags, which vendors' differ in). By
// itself: c++ -std=c++17 -O2 -shared -fPIC -I delegate delegate/tests/claiming_delegate.cc
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tflite/tflite_abi.h"

#define CLAIMING_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

namespace tflite = shadow::tflite;

constexpr int32_t kBatchMatMul = 126;
constexpr double kLongestDelayMs = 60000;

// TFLite's TfLiteBatchMatMulParams.
struct BatchMatMulParams {
  bool adj_x;
  bool adj_y;
  bool asymmetric_quantize_inputs;
};

enum class Claim { kAll, kNone, kOdd };

struct Options {
  Claim claim = Claim::kAll;
  bool fail_create = false;
  bool fail_prepare = false;
  long fail_invoke = 0;  // 0: never
  double delay_ms = 0;
  int64_t flags = tflite::kAllowDynamicTensors;
};

// The delegate and its nodes that are alive; closed_early counts delegates destroyed before their nodes.
std::atomic<int64_t> delegates_alive{0};
std::atomic<int64_t> closed_early{0};

// While it is closed, invokes wait in it. A minute is the end of a test that never opens it.
struct Gate {
  std::mutex mutex;
  std::condition_variable changed;
  bool closed = false;
  int waiting = 0;

  bool Pass() {
    std::unique_lock<std::mutex> lock(mutex);
    ++waiting;
    changed.notify_all();
    const bool open = changed.wait_for(lock, std::chrono::minutes(1), [this] { return !closed; });
    --waiting;
    return open;
  }

  void Hold(bool hold) {
    std::lock_guard<std::mutex> lock(mutex);
    closed = hold;
    changed.notify_all();
  }

  bool AwaitSomebody() {
    std::unique_lock<std::mutex> lock(mutex);
    return changed.wait_for(lock, std::chrono::minutes(1), [this] { return waiting > 0; });
  }
};
Gate gate;

struct ClaimingDelegate {
  tflite::Delegate base{};
  Options options;
  std::atomic<long> invokes{0};
  std::atomic<long> nodes_alive{0};
};

ClaimingDelegate* From(tflite::Delegate* delegate) { return static_cast<ClaimingDelegate*>(delegate->data); }

bool ParseNumber(const char* text, double least, double most, double* number) {
  char* end = nullptr;
  *number = std::strtod(text, &end);
  return end != text && *end == '\0' && *number >= least && *number <= most;
}

bool ParseClaim(const std::string& value, Claim* claim) {
  if (value == "all") *claim = Claim::kAll;
  if (value == "none") *claim = Claim::kNone;
  if (value == "odd") *claim = Claim::kOdd;
  return value == "all" || value == "none" || value == "odd";
}

bool ParseFail(const std::string& value, Options* options) {
  options->fail_create = value == "create";
  options->fail_prepare = value == "prepare";
  double number = 0;
  const bool at_invoke = value.rfind("invoke:", 0) == 0 && ParseNumber(value.c_str() + 7, 1, 1e9, &number);
  options->fail_invoke = static_cast<long>(number);
  return at_invoke || options->fail_create || options->fail_prepare || value == "no";
}

bool ParseOption(const std::string& key, const std::string& value, Options* options) {
  if (key == "claim") return ParseClaim(value, &options->claim);
  if (key == "fail") return ParseFail(value, options);
  if (key == "delay_ms") return ParseNumber(value.c_str(), 0, kLongestDelayMs, &options->delay_ms);
  if (key != "flags" || (value != "0" && value != "1")) return false;
  options->flags = value == "1";
  return true;
}

// Why the options are refused, or "".
std::string ParseOptions(const char* const* keys, const char* const* values, size_t count, Options* options) {
  for (size_t i = 0; i < count; ++i) {
    if (ParseOption(keys[i], values[i], options)) continue;
    return std::string(
               "claiming delegate: wanted claim=all|none|odd, fail=no|create|prepare|invoke:N, delay_ms=X "
               "(0 to 60000) or flags=0|1, got ") +
           keys[i] + "=" + values[i];
  }
  return options->fail_create ? "claiming delegate: creation fails, as asked" : "";
}

// One claimed node: a [...,M,K] x b [...,N,K]^T -> out [...,M,N], all INT8 without zero points.
struct Product {
  ClaimingDelegate* owner;
  int a, b, out;
};

int64_t Batches(const tflite::IntArray& dims) {
  int64_t count = 1;
  for (int i = 0; i + 2 < dims.size; ++i) count *= dims.data[i];
  return count;
}

bool IsInt8(const tflite::Tensor& tensor) {
  return tensor.type == tflite::kInt8 && tensor.params.zero_point == 0 && tensor.params.scale > 0 &&
         tensor.dims != nullptr && tensor.dims->size >= 2 && tensor.allocation_type != tflite::kDynamic;
}

bool Fits(const tflite::Tensor& a, const tflite::Tensor& b, const tflite::Tensor& out) {
  const int rank = a.dims->size;
  if (b.dims->size != rank || out.dims->size != rank) return false;
  for (int i = 0; i + 2 < rank; ++i) {
    if (b.dims->data[i] != a.dims->data[i] || out.dims->data[i] != a.dims->data[i]) return false;
  }
  return a.dims->data[rank - 1] == b.dims->data[rank - 1] && out.dims->data[rank - 2] == a.dims->data[rank - 2] &&
         out.dims->data[rank - 1] == b.dims->data[rank - 2];
}

bool IsClaimable(const tflite::Context& context, const tflite::Node& node, const tflite::Registration& registration) {
  if (registration.builtin_code != kBatchMatMul || node.inputs->size != 2 || node.builtin_data == nullptr) return false;
  const auto& params = *static_cast<const BatchMatMulParams*>(node.builtin_data);
  const tflite::Tensor& a = context.tensors[node.inputs->data[0]];
  const tflite::Tensor& b = context.tensors[node.inputs->data[1]];
  const tflite::Tensor& out = context.tensors[node.outputs->data[0]];
  return !params.adj_x && params.adj_y && IsInt8(a) && IsInt8(b) && IsInt8(out) && Fits(a, b, out);
}

void Multiply(const tflite::Tensor& a, const tflite::Tensor& b, const tflite::Tensor& out) {
  const int rank = a.dims->size;
  const int rows = a.dims->data[rank - 2], columns = b.dims->data[rank - 2], depth = a.dims->data[rank - 1];
  const float multiplier = a.params.scale * b.params.scale / out.params.scale;
  const auto* left = static_cast<const int8_t*>(a.data);
  auto* to = static_cast<int8_t*>(out.data);
  for (int64_t batch = 0; batch < Batches(*a.dims); ++batch) {
    const int8_t* right = static_cast<const int8_t*>(b.data) + batch * columns * depth;
    for (int row = 0; row < rows; ++row, left += depth) {
      for (int column = 0; column < columns; ++column) {
        int32_t sum = 0;
        for (int i = 0; i < depth; ++i) sum += left[i] * right[column * depth + i];
        const float scaled = static_cast<float>(sum) * multiplier;
        *to++ = static_cast<int8_t>(std::lrintf(std::min(std::max(scaled, -128.0f), 127.0f)));
      }
    }
  }
}

void* NodeInit(tflite::Context* context, const char* buffer, size_t) {
  const auto& params = *reinterpret_cast<const tflite::DelegateParams*>(buffer);
  ClaimingDelegate* owner = From(params.delegate);
  tflite::Node* node = nullptr;
  tflite::Registration* registration = nullptr;
  if (context->get_node_and_registration(context, params.nodes_to_replace->data[0], &node, &registration) !=
      tflite::kOk)
    return nullptr;
  ++owner->nodes_alive;
  return new Product{owner, node->inputs->data[0], node->inputs->data[1], node->outputs->data[0]};
}

void NodeFree(tflite::Context*, void* user_data) {
  auto* product = static_cast<Product*>(user_data);
  if (product == nullptr) return;
  --product->owner->nodes_alive;
  delete product;
}

tflite::ReturnCode NodePrepare(tflite::Context* context, tflite::Node* node) {
  const auto* product = static_cast<const Product*>(node->user_data);
  if (product == nullptr) return tflite::kError;
  if (!product->owner->options.fail_prepare) return tflite::kOk;
  context->report_error(context, "claiming delegate: prepare fails, as asked");
  return tflite::kError;
}

tflite::ReturnCode NodeInvoke(tflite::Context* context, tflite::Node* node) {
  const auto& product = *static_cast<const Product*>(node->user_data);
  const Options& options = product.owner->options;
  const long invoke = ++product.owner->invokes;
  if (invoke == options.fail_invoke) {
    context->report_error(context, "claiming delegate: invoke %ld fails, as asked", invoke);
    return tflite::kError;
  }
  if (!gate.Pass()) {
    context->report_error(context, "claiming delegate: invoke %ld was held for a minute", invoke);
    return tflite::kError;
  }
  std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(options.delay_ms));
  Multiply(context->tensors[product.a], context->tensors[product.b], context->tensors[product.out]);
  return tflite::kOk;
}

tflite::Registration NodeRegistration() {
  tflite::Registration registration{};
  registration.init = NodeInit;
  registration.free = NodeFree;
  registration.prepare = NodePrepare;
  registration.invoke = NodeInvoke;
  registration.builtin_code = tflite::kBuiltinDelegate;
  registration.custom_name = "ClaimingDelegate";
  registration.version = 1;
  return registration;
}

tflite::ReturnCode DelegatePrepare(tflite::Context* context, tflite::Delegate* delegate) {
  tflite::IntArray* plan = nullptr;
  if (context->get_execution_plan(context, &plan) != tflite::kOk) return tflite::kError;
  const Claim claim = From(delegate)->options.claim;
  std::vector<int> claimed;
  for (int index : std::vector<int>(plan->data, plan->data + plan->size)) {
    tflite::Node* node = nullptr;
    tflite::Registration* registration = nullptr;
    if (context->get_node_and_registration(context, index, &node, &registration) != tflite::kOk) return tflite::kError;
    const bool wanted = claim == Claim::kAll || (claim == Claim::kOdd && index % 2 == 1);
    if (wanted && IsClaimable(*context, *node, *registration)) claimed.push_back(index);
  }
  for (int index : claimed) {  // one by one: then no tensor lies inside a partition, where nobody would allocate it
    const int one[] = {1, index};
    const auto* nodes = reinterpret_cast<const tflite::IntArray*>(one);
    if (context->replace_node_subsets(context, NodeRegistration(), nodes, delegate) != tflite::kOk)
      return tflite::kError;
  }
  return tflite::kOk;
}

}  // namespace

CLAIMING_EXPORT tflite::Delegate* tflite_plugin_create_delegate(const char* const* keys, const char* const* values,
                                                                size_t count, void (*report_error)(const char*)) {
  auto made = std::make_unique<ClaimingDelegate>();
  const std::string refusal = ParseOptions(keys, values, count, &made->options);
  if (!refusal.empty()) {
    if (report_error != nullptr) report_error(refusal.c_str());
    return nullptr;
  }
  made->base.data = made.get();
  made->base.prepare = DelegatePrepare;
  made->base.flags = made->options.flags;
  ++delegates_alive;
  return &made.release()->base;
}

// Does not forgive null, as a vendor's may not.
CLAIMING_EXPORT void tflite_plugin_destroy_delegate(tflite::Delegate* delegate) {
  ClaimingDelegate* claiming = From(delegate);
  --delegates_alive;
  if (claiming->nodes_alive != 0) {
    std::fprintf(stderr, "claiming delegate: destroyed before %ld of its nodes\n", claiming->nodes_alive.load());
    ++closed_early;
    return;  // leaked, so that the nodes that are left do not follow a dangling pointer
  }
  delete claiming;
}

CLAIMING_EXPORT int64_t claiming_delegates_alive(void) { return delegates_alive; }

CLAIMING_EXPORT int64_t claiming_closed_early(void) { return closed_early; }

// From now on invokes wait (1) or run (0); 1 once one waits.
CLAIMING_EXPORT void claiming_hold_invokes(int64_t hold) { gate.Hold(hold != 0); }

CLAIMING_EXPORT int64_t claiming_await_held_invoke(void) { return gate.AwaitSomebody() ? 1 : 0; }
