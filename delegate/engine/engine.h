// What all ops of one delegate share.
#ifndef SHADOWATTN_DELEGATE_ENGINE_ENGINE_H_
#define SHADOWATTN_DELEGATE_ENGINE_ENGINE_H_

#include <memory>
#include <optional>

#include "base/thread_pool.h"
#include "cache/append_rows.h"
#include "cache/cache_table.h"
#include "config/op_options.h"
#include "config/plan.h"
#include "engine/options.h"
#include "kernels/kernel_table.h"
#include "tflite/signature_gate.h"

namespace shadow {

class Engine {
 public:
  // Loads the plan. Throws std::bad_alloc and std::system_error.
  static Status Create(const DelegateOptions& options, std::unique_ptr<Engine>* engine);

  const DelegateOptions& options() const { return options_; }
  const KernelTable& kernels() const { return kernels_; }
  const Plan* plan() const { return plan_ ? &*plan_ : nullptr; }
  CacheTable& caches() { return caches_; }
  ThreadPool& pool() { return pool_; }
  SignatureGate& signatures() { return signatures_; }

  // The cache an op was told to use, checked against the op: its shape, the plan's shape, and that there is a plan if
  // the cache's mode needs one.
  Status Open(int32_t handle, const OpOptions& op, CacheLease* lease);

  // [H] of a layer: the cache's own, else the plan's; null without a plan.
  const float* ThresholdFactors(const KvCache& cache, int layer) const;

  Status SetThresholdFactors(const float* factors, int64_t count, KvCache* cache) const;

  bool benchmark() const { return options_.benchmark_rows > 0; }
  // Makes random inputs meaningful: clamps the chunk to follow benchmark_rows random rows.
  Status PrepareBenchmark(const OpOptions& op, int64_t time, KvCache* cache, Chunk* chunk);

 private:
  explicit Engine(const DelegateOptions& options);

  const DelegateOptions options_;
  const KernelTable kernels_;
  std::optional<Plan> plan_;
  CacheTable caches_;
  ThreadPool pool_;
  SignatureGate signatures_;
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ENGINE_ENGINE_H_
