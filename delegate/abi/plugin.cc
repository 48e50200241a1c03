// The exported C symbols: TFLite's two for external delegates, and the shadow_* ABI.
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "abi/shadow_abi.h"
#include "abi/stages.h"
#include "base/last_error.h"
#include "engine/options.h"
#include "tflite/delegate.h"

#ifndef SHADOWATTN_VERSION
#define SHADOWATTN_VERSION "0.0.0"
#endif

#define SHADOW_EXPORT extern "C" __attribute__((visibility("default")))

namespace shadow {
namespace {

// The delegates that exist, so that a pointer to one that was destroyed is refused instead of followed.
struct Registry {
  std::mutex mutex;
  std::set<const void*> alive;
};

// Never destroyed: Python may drop a delegate after the destructors of statics have run.
Registry& TheRegistry() {
  static auto* registry = new Registry;
  return *registry;
}

Status Find(void* delegate, std::shared_ptr<Engine>* engine) {
  Registry& registry = TheRegistry();
  std::lock_guard<std::mutex> lock(registry.mutex);
  if (registry.alive.count(delegate) == 0) {
    return Status::Error(
        "there is no such delegate (or it was destroyed); pass what tflite_plugin_create_delegate returned");
  }
  *engine = ShadowDelegate::From(static_cast<tflite::Delegate*>(delegate))->engine();
  return Status::Ok();
}

Status Create(const char* const* keys, const char* const* values, size_t count, tflite::Delegate** delegate) {
  DelegateOptions options;
  SHADOW_RETURN_IF_ERROR(ParseDelegateOptions(keys, values, count, &options));
  std::unique_ptr<Engine> engine;
  SHADOW_RETURN_IF_ERROR(Engine::Create(options, &engine));
  auto made = std::make_unique<ShadowDelegate>(std::move(engine));
  Registry& registry = TheRegistry();
  std::lock_guard<std::mutex> lock(registry.mutex);
  registry.alive.insert(made->base());
  *delegate = made.release()->base();
  return Status::Ok();
}

// Runs call(engine) and turns its Status into what a C function returns.
template <typename Call>
int32_t WithEngine(void* delegate, const Call& call) {
  const Status status = Guarded([&] {
    std::shared_ptr<Engine> engine;
    SHADOW_RETURN_IF_ERROR(Find(delegate, &engine));
    return call(engine.get());
  });
  if (status.ok()) return 0;
  SetLastError(status.message().c_str());
  return -1;
}

Status ReadStats(const KvCache& cache, ShadowStats* out) {
  const Statistics s = cache.statistics();
  out->rows = s.rows;
  out->causal_rows = s.causal_rows;
  out->value_rows_read = s.value_rows_read;
  out->k_saturated = s.k_saturated;
  out->cache_bytes = cache.bytes();
  out->length = cache.committed();
  out->seconds_append = s.seconds_append;
  out->seconds_estimate = s.seconds_estimate;
  out->seconds_select = s.seconds_select;
  out->seconds_attend = s.seconds_attend;
  out->rows_not_compensated = s.rows_not_compensated;
  out->pages = s.pages;
  out->pages_scored = s.pages_scored;
  return Status::Ok();
}

Status CheckStatsStruct(const ShadowStats* out) {
  if (out != nullptr && out->struct_size == sizeof(ShadowStats)) return Status::Ok();
  return Status::Error("struct_size must be %zu, got %u; the caller was built for another version of shadow_abi.h",
                       sizeof(ShadowStats), out == nullptr ? 0 : out->struct_size);
}

}  // namespace
}  // namespace shadow

using shadow::CacheLease;
using shadow::Engine;
using shadow::KvCache;
using shadow::Status;

SHADOW_EXPORT shadow::tflite::Delegate* tflite_plugin_create_delegate(const char* const* keys,
                                                                      const char* const* values, size_t count,
                                                                      void (*report_error)(const char*)) {
  shadow::tflite::Delegate* delegate = nullptr;
  const Status status = shadow::Guarded([&] { return shadow::Create(keys, values, count, &delegate); });
  if (status.ok()) return delegate;
  shadow::SetLastError(status.message().c_str());
  if (report_error != nullptr) report_error(status.message().c_str());
  return nullptr;
}

SHADOW_EXPORT void tflite_plugin_destroy_delegate(shadow::tflite::Delegate* delegate) {
  {
    shadow::Registry& registry = shadow::TheRegistry();
    std::lock_guard<std::mutex> lock(registry.mutex);
    if (registry.alive.erase(delegate) == 0) return;
  }
  delete shadow::ShadowDelegate::From(delegate);
}

SHADOW_EXPORT int32_t shadow_abi_version(void) { return SHADOW_ABI_VERSION; }

SHADOW_EXPORT const char* shadow_build_info(void) {
#if defined(SHADOW_HAS_AMX)
#define SHADOW_LEVELS "scalar avx2 avx512 avx512vnni avx512amx"
#elif defined(__x86_64__)
#define SHADOW_LEVELS "scalar avx2 avx512 avx512vnni"
#elif defined(SHADOW_HAS_I8MM)
#define SHADOW_LEVELS "scalar neon neondot neoni8mm"
#elif defined(__aarch64__)
#define SHADOW_LEVELS "scalar neon neondot"
#else
#define SHADOW_LEVELS "scalar"
#endif
#if defined(__clang__)
#define SHADOW_COMPILER "clang " __clang_version__
#else
#define SHADOW_COMPILER "gcc " __VERSION__
#endif
  return "shadowattn " SHADOWATTN_VERSION ", " SHADOW_COMPILER ", isa: " SHADOW_LEVELS;
}

SHADOW_EXPORT const char* shadow_best_isa(void) { return shadow::ArchName(shadow::DetectArch()); }

SHADOW_EXPORT const char* shadow_isa(void* delegate) {
  const char* name = nullptr;
  shadow::WithEngine(delegate, [&](Engine* engine) {
    name = shadow::ArchName(engine->options().arch);
    return Status::Ok();
  });
  return name;
}

SHADOW_EXPORT const char* shadow_last_error(void) { return shadow::LastError(); }

SHADOW_EXPORT const char* shadow_cache_defaults(void) {
  static const auto* text = new std::string(shadow::FormatCacheSettings(shadow::CacheSettings(shadow::DefaultMode())));
  return text->c_str();
}

SHADOW_EXPORT int32_t shadow_cache_create(void* delegate, const char* options) {
  int32_t handle = -1;
  shadow::WithEngine(delegate, [&](Engine* engine) {
    shadow::CacheSettings settings = engine->options().cache;
    SHADOW_RETURN_IF_ERROR(shadow::ParseCacheSettings(options, shadow::CacheStage::kCreation, &settings));
    return engine->caches().Create(settings, &handle);
  });
  return handle;
}

SHADOW_EXPORT int32_t shadow_cache_destroy(void* delegate, int32_t cache) {
  return shadow::WithEngine(delegate, [&](Engine* engine) { return engine->caches().Destroy(cache); });
}

SHADOW_EXPORT int32_t shadow_cache_configure(void* delegate, int32_t cache, const char* options) {
  return shadow::WithEngine(delegate, [&](Engine* engine) {
    CacheLease lease;
    SHADOW_RETURN_IF_ERROR(engine->caches().Lease(cache, &lease));
    shadow::CacheSettings settings = lease->settings();
    SHADOW_RETURN_IF_ERROR(shadow::ParseCacheSettings(options, shadow::CacheStage::kInUse, &settings));
    lease->Configure(settings);
    return Status::Ok();
  });
}

SHADOW_EXPORT int32_t shadow_cache_set_factors(void* delegate, int32_t cache, const float* factors, int64_t count) {
  return shadow::WithEngine(delegate, [&](Engine* engine) {
    CacheLease lease;
    SHADOW_RETURN_IF_ERROR(engine->caches().Lease(cache, &lease));
    return engine->SetThresholdFactors(factors, count, &*lease);
  });
}

SHADOW_EXPORT int32_t shadow_observe(void* delegate, int32_t cache, int32_t what) {
  return shadow::WithEngine(delegate, [&](Engine* engine) {
    CacheLease lease;
    SHADOW_RETURN_IF_ERROR(engine->caches().Lease(cache, &lease));
    if (what < 0 || what > int32_t{shadow::kObserveAll}) {
      return Status::Error("observe: wanted a sum of 1, 2, 4 and 8, or 0 for nothing, got %d", what);
    }
    lease->observed().Start(uint32_t(what));
    return Status::Ok();
  });
}

SHADOW_EXPORT int32_t shadow_observed(void* delegate, int32_t cache, const char* name, double* out, int64_t count) {
  return shadow::WithEngine(delegate, [&](Engine* engine) {
    std::shared_ptr<KvCache> found;
    SHADOW_RETURN_IF_ERROR(engine->caches().Find(cache, &found));
    return found->observed().Read(name == nullptr ? "" : name, out, count);
  });
}

SHADOW_EXPORT int32_t shadow_observed_reset(void* delegate, int32_t cache) {
  return shadow::WithEngine(delegate, [&](Engine* engine) {
    std::shared_ptr<KvCache> found;
    SHADOW_RETURN_IF_ERROR(engine->caches().Find(cache, &found));
    found->observed().Reset();
    return Status::Ok();
  });
}

SHADOW_EXPORT int64_t shadow_cache_length(void* delegate, int32_t cache) {
  int64_t length = -1;
  shadow::WithEngine(delegate, [&](Engine* engine) {
    std::shared_ptr<KvCache> found;
    SHADOW_RETURN_IF_ERROR(engine->caches().Find(cache, &found));
    length = found->committed();
    return Status::Ok();
  });
  return length;
}

SHADOW_EXPORT int32_t shadow_cache_rewind(void* delegate, int32_t cache, int64_t length) {
  return shadow::WithEngine(delegate, [&](Engine* engine) {
    CacheLease lease;
    SHADOW_RETURN_IF_ERROR(engine->caches().Lease(cache, &lease));
    return lease->Rewind(length);
  });
}

SHADOW_EXPORT int32_t shadow_append(void* delegate, const ShadowChunk* chunk, ShadowEstimateInputs* inputs) {
  return shadow::WithEngine(delegate, [&](Engine* engine) { return shadow::RunAppend(chunk, inputs, engine); });
}

SHADOW_EXPORT int32_t shadow_attend(void* delegate, const ShadowChunk* chunk, const ShadowHeads* heads) {
  return shadow::WithEngine(delegate, [&](Engine* engine) { return shadow::RunAttend(chunk, heads, engine); });
}

SHADOW_EXPORT int32_t shadow_set_signatures(void* delegate, const char* list) {
  return shadow::WithEngine(delegate, [&](Engine* engine) {
    engine->signatures().Set(list == nullptr ? "" : list);
    return Status::Ok();
  });
}

SHADOW_EXPORT int32_t shadow_set_num_threads(void* delegate, int32_t num_threads) {
  return shadow::WithEngine(delegate, [&](Engine* engine) {
    if (num_threads < 1 || num_threads > shadow::kMaxThreads) {
      return Status::Error("num_threads must be in 1..%d, got %d", shadow::kMaxThreads, num_threads);
    }
    engine->pool().SetNumThreads(num_threads);
    return Status::Ok();
  });
}

SHADOW_EXPORT int32_t shadow_stats(void* delegate, int32_t cache, ShadowStats* out) {
  return shadow::WithEngine(delegate, [&](Engine* engine) {
    SHADOW_RETURN_IF_ERROR(shadow::CheckStatsStruct(out));
    std::shared_ptr<KvCache> found;
    SHADOW_RETURN_IF_ERROR(engine->caches().Find(cache, &found));
    return shadow::ReadStats(*found, out);
  });
}

SHADOW_EXPORT int32_t shadow_stats_reset(void* delegate, int32_t cache) {
  return shadow::WithEngine(delegate, [&](Engine* engine) {
    std::shared_ptr<KvCache> found;
    SHADOW_RETURN_IF_ERROR(engine->caches().Find(cache, &found));
    found->ResetStatistics();
    return Status::Ok();
  });
}

SHADOW_EXPORT int32_t shadow_num_caches(void* delegate) {
  int32_t count = -1;
  shadow::WithEngine(delegate, [&](Engine* engine) {
    count = engine->caches().size();
    return Status::Ok();
  });
  return count;
}
