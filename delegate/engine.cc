#include "engine.h"

#include <algorithm>
#include <cstdio>

namespace shadow {

Engine::Engine(const DelegateOptions& options)
    : options_(options), kernels_(options.arch), caches_(options.cache), pool_(options.num_threads) {
  signatures_.Set(options.signatures);
}

Status Engine::Create(const DelegateOptions& options, std::unique_ptr<Engine>* engine) {
  std::unique_ptr<Engine> e(new Engine(options));
  if (!options.plan.empty()) {
    e->plan_.emplace();
    SHADOW_RETURN_IF_ERROR(Plan::Load(options.plan, &*e->plan_));
  }
  if (options.arch == kArchScalar) {
    std::fprintf(stderr,
                 "shadowattn: only the scalar kernels run here, which is slow; the best of this machine is %s\n",
                 ArchName(DetectArch()));
  }
  *engine = std::move(e);
  return Status::Ok();
}

Status Engine::Open(int32_t handle, const OpOptions& op, CacheLease* lease) {
  SHADOW_RETURN_IF_ERROR(caches_.Lease(benchmark() ? 0 : handle, lease));
  const CacheSettings& settings = (*lease)->settings();
  if (plan() == nullptr && !settings.dense()) {
    return Status::Error("mode %s needs a plan; pass the delegate option plan=PATH, or use mode=dense",
                         ModeName(settings.mode));
  }
  if (plan() != nullptr) SHADOW_RETURN_IF_ERROR(plan()->CheckFits(op));
  return (*lease)->Bind(op, plan() != nullptr);
}

const float* Engine::ThresholdFactors(const KvCache& cache, int layer) const {
  if (plan() == nullptr) return nullptr;
  const std::vector<float>& own = cache.threshold_factors();
  return own.empty() ? plan()->threshold_factors(layer) : own.data() + size_t(layer) * plan()->num_heads();
}

Status Engine::SetThresholdFactors(const float* factors, int64_t count, KvCache* cache) const {
  const int64_t wanted = plan() == nullptr ? 0 : int64_t{plan()->num_layers()} * plan()->num_heads();
  if (count != 0 && (count != wanted || factors == nullptr)) {
    return Status::Error("threshold factors: wanted %lld (layers x heads of the plan), or none, got %lld",
                         static_cast<long long>(wanted), static_cast<long long>(count));
  }
  for (int64_t i = 0; i < count; ++i) {
    if (!(factors[i] >= 0)) {
      return Status::Error("threshold factor %lld must be at least 0, got %g", static_cast<long long>(i),
                           double(factors[i]));
    }
  }
  cache->SetThresholdFactors(std::vector<float>(factors, factors + count));
  return Status::Ok();
}

Status Engine::PrepareBenchmark(const OpOptions& op, int64_t time, KvCache* cache, Chunk* chunk) {
  chunk->layer = std::clamp(chunk->layer, 0, op.num_layers - 1);
  chunk->position = options_.benchmark_rows;
  chunk->n_valid = std::clamp<int64_t>(chunk->n_valid, 1, time);
  SHADOW_RETURN_IF_ERROR(AppendRandomRows(op, chunk->layer, chunk->position, plan(), kernels_, &pool_, cache));
  cache->AssumeLength(*chunk, chunk->position);
  return Status::Ok();
}

Status Engine::AppendBenchmarkRows(const OpOptions& op, const Chunk& chunk, KvCache* cache) {
  SHADOW_RETURN_IF_ERROR(AppendRandomRows(op, chunk.layer, chunk.end(), plan(), kernels_, &pool_, cache));
  cache->AssumeLength(chunk, chunk.end());
  return Status::Ok();
}

}  // namespace shadow
