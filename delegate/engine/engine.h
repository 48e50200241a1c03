// What all ops of one delegate share, and the one way from a call to the caches.
#ifndef SHADOWATTN_DELEGATE_ENGINE_ENGINE_H_
#define SHADOWATTN_DELEGATE_ENGINE_ENGINE_H_

#include <memory>
#include <optional>

#include "base/status.h"
#include "base/thread_pool.h"
#include "cache/attention_backend.h"
#include "cache/cache_table.h"
#include "cache/chunk.h"
#include "config/plan.h"
#include "engine/cpu_backend.h"
#include "engine/open_signatures.h"
#include "engine/options.h"

namespace shadow {

class Engine {
 public:
  // Loads the plan. Throws std::bad_alloc and std::system_error.
  static Status Create(const DelegateOptions& options, std::unique_ptr<Engine>* engine);

  // What the calls below refuse, they refuse before a cache changes. They throw std::bad_alloc.
  //
  // The op of a graph: appends the chunk's k and v, attends with all heads, commits. out [T][H*d]; padding becomes
  // zero.
  Status Run(const ChunkInputs& in, float* out);
  // The op's first step alone, which commits; estimate null: no estimate graph will run.
  Status Append(const ChunkInputs& in, const EstimateInputs* estimate);
  // The op's second step alone, for some heads. The chunk's rows are in the cache. part.threshold_factors is not read.
  Status Attend(const ChunkInputs& in, const AttendPart& part, float* out);

  const DelegateOptions& options() const { return options_; }
  CacheTable& caches() { return caches_; }
  ThreadPool& pool() { return resources_.pool; }
  OpenSignatures& signatures() { return signatures_; }

  // Factors [layers * heads] of the heads' thresholds instead of the plan's; count 0: the plan's again.
  Status SetThresholdFactors(const float* factors, int64_t count, KvCache* cache) const;

 private:
  explicit Engine(const DelegateOptions& options);

  const Plan* plan() const { return resources_.plan; }
  bool benchmark() const { return options_.benchmark_rows > 0; }
  Status Open(const ChunkInputs& in, CacheLease* lease);
  Status CheckChunk(const ChunkInputs& in, const KvCache& cache) const;
  void AttendHeads(const ChunkInputs& in, const AttendPart& part, float* out, KvCache* cache) const;

  const DelegateOptions options_;
  std::optional<Plan> plan_;
  CpuResources resources_;
  CacheTable caches_;
  OpenSignatures signatures_;
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ENGINE_ENGINE_H_
