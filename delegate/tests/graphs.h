// Graphs of our ops for FakeRuntime, and a delegate to run them.
#ifndef SHADOWATTN_DELEGATE_TESTS_GRAPHS_H_
#define SHADOWATTN_DELEGATE_TESTS_GRAPHS_H_

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/options.h"
#include "tests/check.h"
#include "tests/fake_runtime.h"
#include "tests/format_bytes.h"
#include "tflite/delegate.h"
#include "tflite/sparse_attention_op.h"

namespace shadow::testing {

struct Shape {
  int num_layers = 1;
  int num_heads = 4;
  int num_kv_heads = 2;
  int head_dim = 8;
  float centre = 0.125f;
  float scale = 0.03f;

  OpOptions op(int layer) const { return {layer, num_layers, num_heads, num_kv_heads, head_dim, 0.25f}; }
};

// A delegate with a plan for the shape. settings: "key=value;key=value" of a cache.
class TestDelegate {
 public:
  TestDelegate(const Shape& shape, const std::string& settings, bool with_plan = true, int64_t benchmark_rows = 0) {
    DelegateOptions options;
    CHECK_OK(ParseDelegateOptions(nullptr, nullptr, 0, &options));
    CHECK_OK(ParseCacheSettings(settings.c_str(), CacheStage::kCreation, &options.cache));
    options.benchmark_rows = benchmark_rows;
    options.num_threads = 2;
    if (with_plan) {
      options.plan = std::string(SHADOW_TEST_DIR) + "/" + std::to_string(std::random_device{}()) + "_plan.bin";
      WriteBytes(options.plan, PackPlan({shape.num_layers, shape.num_heads, shape.num_kv_heads, shape.head_dim},
                                        shape.centre, shape.scale));
    }
    std::unique_ptr<Engine> engine;
    CHECK_OK(Engine::Create(options, &engine));
    if (with_plan) std::remove(options.plan.c_str());
    delegate_ = std::make_unique<ShadowDelegate>(std::move(engine));
  }

  tflite::Delegate* base() { return delegate_->base(); }
  Engine& engine() { return *delegate_->engine(); }
  int64_t length(int32_t handle = 0) {
    std::shared_ptr<KvCache> cache;
    CHECK_OK(engine().caches().Find(handle, &cache));
    return cache->committed();
  }

 private:
  std::unique_ptr<ShadowDelegate> delegate_;
};

// num_layers ops side by side, each with its own q, k, v and the same integers.
class OpGraph {
 public:
  OpGraph(const Shape& shape, int time) : shape_(shape), time_(time) {
    position = runtime.AddTensor(tflite::kInt32, {1});
    n_valid = runtime.AddTensor(tflite::kInt32, {1});
    cache = runtime.AddTensor(tflite::kInt32, {1});
    std::vector<int> outputs;
    for (int layer = 0; layer < shape.num_layers; ++layer) {
      q.push_back(runtime.AddTensor(tflite::kFloat32, {1, time, shape.num_heads, shape.head_dim}));
      k.push_back(runtime.AddTensor(tflite::kFloat32, {1, time, shape.num_kv_heads, shape.head_dim}));
      v.push_back(runtime.AddTensor(tflite::kFloat32, {1, time, shape.num_kv_heads, shape.head_dim}));
      o.push_back(runtime.AddTensor(tflite::kFloat32, {1, 1, 1}));
      runtime.AddNode(kSparseAttentionName, PackOpOptions(shape.op(layer)),
                      {q.back(), k.back(), v.back(), position, n_valid, cache}, {o.back()});
    }
    runtime.SetGraphOutputs(o);
  }

  bool Run(int32_t at, int32_t rows, int32_t handle = 0) {
    *runtime.data<int32_t>(position) = at;
    *runtime.data<int32_t>(n_valid) = rows;
    *runtime.data<int32_t>(cache) = handle;
    return runtime.Invoke();
  }

  int time() const { return time_; }

  FakeRuntime runtime;
  std::vector<int> q, k, v, o;  // by layer
  int position, n_valid, cache;

 private:
  const Shape shape_;
  const int time_;
};

}  // namespace shadow::testing

#endif  // SHADOWATTN_DELEGATE_TESTS_GRAPHS_H_
