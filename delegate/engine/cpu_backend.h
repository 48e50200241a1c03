// The backend that stores a cache's rows in memory and attends on the CPU.
#ifndef SHADOWATTN_DELEGATE_ENGINE_CPU_BACKEND_H_
#define SHADOWATTN_DELEGATE_ENGINE_CPU_BACKEND_H_

#include <cstdint>

#include "attention/scratch.h"
#include "base/thread_pool.h"
#include "cache/attention_backend.h"
#include "cache/kv_pages.h"
#include "config/plan.h"
#include "config/settings.h"
#include "kernels/kernel_table.h"

namespace shadow {

// What the caches of one engine share.
struct CpuResources {
  CpuResources(ArchFlags arch, int num_threads) : kernels(arch), pool(num_threads) {}

  const KernelTable kernels;
  ThreadPool pool;
  ScratchStore scratch;
  const Plan* plan = nullptr;  // null: without a plan
};

class CpuBackend final : public AttentionBackend {
 public:
  CpuBackend(const CacheSettings& settings, CpuResources* resources)
      : settings_(settings), resources_(*resources), pages_(settings.cache_type) {}

  void Bind(const OpOptions& op) override { pages_.Bind(op, resources_.plan != nullptr); }
  void Configure(const CacheSettings& settings) override;
  void Append(const ChunkInputs& in, const EstimateInputs* estimate, Statistics* statistics) override;
  void Attend(const ChunkInputs& in, const AttendPart& part, float* out, Observer* observer,
              Statistics* statistics) override;
  void Truncate(int64_t length) override { pages_.Truncate(length); }
  int64_t bytes() const override { return pages_.bytes(); }

  const KvPages& pages() const { return pages_; }

 private:
  CacheSettings settings_;
  CpuResources& resources_;
  KvPages pages_;
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ENGINE_CPU_BACKEND_H_
