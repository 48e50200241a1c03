// Settings as key=value: of the delegate (docs/op_spec.md, delegate options), and the part of them each cache has.
#ifndef SHADOWATTN_DELEGATE_OPTIONS_H_
#define SHADOWATTN_DELEGATE_OPTIONS_H_

#include <cstdint>
#include <string>

#include "kernels/arch.h"
#include "kernels/layout.h"
#include "status.h"

namespace shadow {

inline constexpr int kMaxThreads = 64;
inline constexpr int64_t kLongestCache = int64_t{1} << 24;

enum class Mode : uint8_t { kShadow, kDense };

struct CacheSettings {
  Mode mode = Mode::kShadow;
  double keep_ratio = 0.2;
  int32_t min_k = 64;
  int32_t sinks = 4;
  int32_t latest = 16;
  CacheType cache_type = CacheType::kFloat16;
  int64_t max_length = 32768;

  // keep_ratio 1.0 keeps everything, so nothing has to be ranked.
  bool dense() const { return mode == Mode::kDense || keep_ratio >= 1.0; }
};

struct DelegateOptions {
  int num_threads = 1;
  CacheSettings cache;
  std::string plan;
  std::string signatures;
  ArchFlags arch = kArchScalar;
  int verbosity = 0;
  int64_t benchmark_rows = 0;
};

// keys and values as tflite_plugin_create_delegate gets them. Resolves isa; the message of a refusal lists what is
// allowed.
Status ParseDelegateOptions(const char* const* keys, const char* const* values, size_t count, DelegateOptions* options);

// "key=value;key=value" or "". kLiving: only what may change once rows are stored.
enum class CacheStage { kCreation, kLiving };
Status ParseCacheSettings(const char* text, CacheStage stage, CacheSettings* settings);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_OPTIONS_H_
