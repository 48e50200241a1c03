#include "engine/engine.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "engine/benchmark_rows.h"
#include "engine/check_chunk.h"

namespace shadow {
namespace {

// Zeros the part's heads in the rows from n_valid on.
void ClearPadding(const ChunkInputs& in, const HeadGroup& heads, float* out) {
  const int64_t d = in.op.head_dim, width = in.op.num_heads * d;
  const int64_t first = (int64_t{heads.first_kv_head} * in.op.group() + heads.first) * d;
  const int64_t count = int64_t{heads.kv_heads} * heads.width * d;
  for (int64_t t = in.chunk.n_valid; t < in.time; ++t) std::fill_n(out + t * width + first, count, 0.0f);
}

}  // namespace

Engine::Engine(const DelegateOptions& options)
    : options_(options),
      resources_(options.arch, options.num_threads),
      caches_(options.cache,
              [this](const CacheSettings& settings) { return std::make_unique<CpuBackend>(settings, &resources_); }) {
  signatures_.Set(options.signatures);
}

Status Engine::Create(const DelegateOptions& options, std::unique_ptr<Engine>* engine) {
  std::unique_ptr<Engine> e(new Engine(options));
  if (!options.plan.empty()) {
    SHADOW_RETURN_IF_ERROR(Plan::Load(options.plan, &e->plan_.emplace()));
    e->resources_.plan = &*e->plan_;
  }
  if (options.arch == kArchScalar) {
    std::fprintf(stderr,
                 "shadowattn: only the scalar kernels run here, which is slow; the best of this machine is %s\n",
                 ArchName(DetectArch()));
  }
  *engine = std::move(e);
  return Status::Ok();
}

Status Engine::Run(const ChunkInputs& given, float* out) {
  ChunkInputs in = given;
  CacheLease cache;
  SHADOW_RETURN_IF_ERROR(Open(in, &cache));
  if (benchmark()) PrepareBenchmark(options_.benchmark_rows, &in, &*cache);
  SHADOW_RETURN_IF_ERROR(CheckChunk(in, *cache));
  cache->Append(in, nullptr);
  AttendHeads(in, {HeadGroup::All(in.op), {}}, out, &*cache);
  cache->Commit(in.chunk);
  return Status::Ok();
}

Status Engine::Append(const ChunkInputs& in, const EstimateInputs* estimate) {
  CacheLease cache;
  SHADOW_RETURN_IF_ERROR(Open(in, &cache));
  SHADOW_RETURN_IF_ERROR(CheckChunk(in, *cache));
  if (estimate != nullptr) {
    SHADOW_RETURN_IF_ERROR(CheckFitsBucket(in.chunk, estimate->seq_len));
    SHADOW_RETURN_IF_ERROR(CheckScales(plan(), estimate->scales));
  }
  cache->Append(in, estimate);
  cache->Commit(in.chunk);
  return Status::Ok();
}

Status Engine::Attend(const ChunkInputs& in, const AttendPart& part, float* out) {
  CacheLease cache;
  SHADOW_RETURN_IF_ERROR(Open(in, &cache));
  SHADOW_RETURN_IF_ERROR(CheckRange(in));
  SHADOW_RETURN_IF_ERROR(cache->CheckAppended(in.chunk));
  SHADOW_RETURN_IF_ERROR(CheckPart(in, part, cache->settings(), plan()));
  AttendHeads(in, part, out, &*cache);
  return Status::Ok();
}

// Leases the cache, and checks it against the op: the model's shape, the plan's, and that there is a plan if the
// cache's mode needs one.
Status Engine::Open(const ChunkInputs& in, CacheLease* lease) {
  SHADOW_RETURN_IF_ERROR(caches_.Lease(benchmark() ? 0 : in.cache, lease));
  const CacheSettings& settings = (*lease)->settings();
  if (plan() == nullptr && RunningMode(settings).needs_plan) {
    return Status::Error("mode %s needs a plan; pass the delegate option plan=PATH, or use mode=dense",
                         settings.mode->name);
  }
  if (plan() != nullptr) SHADOW_RETURN_IF_ERROR(plan()->CheckFits(in.op));
  return (*lease)->Bind(in.op);
}

// Of a chunk that brings its rows.
Status Engine::CheckChunk(const ChunkInputs& in, const KvCache& cache) const {
  SHADOW_RETURN_IF_ERROR(CheckRange(in));
  SHADOW_RETURN_IF_ERROR(cache.CheckChunk(in.chunk));
  const ModeTraits& mode = RunningMode(cache.settings());
  if (mode.check_plan != nullptr) SHADOW_RETURN_IF_ERROR(mode.check_plan(*plan(), in.chunk.layer));
  return CheckValues(in, cache.settings().cache_type);
}

void Engine::AttendHeads(const ChunkInputs& in, const AttendPart& part, float* out, KvCache* cache) const {
  AttendPart p = part;
  const std::vector<float>& own = cache->threshold_factors();
  if (!own.empty()) {
    p.threshold_factors = own.data() + size_t(in.chunk.layer) * in.op.num_heads;
  } else if (plan() != nullptr) {
    p.threshold_factors = plan()->threshold_factors(in.chunk.layer);
  }
  if (!RunningMode(cache->settings()).reads_graph_scores) p.scores = {};
  cache->Attend(in, p, out);
  ClearPadding(in, p.heads, out);
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

}  // namespace shadow
