// Settings as text: of the delegate (docs/op_spec.md, delegate options), and the part of them that each cache has.
#ifndef SHADOWATTN_DELEGATE_ENGINE_OPTIONS_H_
#define SHADOWATTN_DELEGATE_ENGINE_OPTIONS_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/status.h"
#include "config/settings.h"
#include "engine/modes.h"
#include "kernels/arch.h"

namespace shadow {

inline constexpr int kMaxThreads = 64;

struct DelegateOptions {
  int num_threads = 1;
  CacheSettings cache{DefaultMode()};
  std::string plan;
  std::string signatures;
  ArchFlags arch = kArchScalar;
  int verbosity = 0;
  int64_t benchmark_rows = 0;
};

// keys and values as tflite_plugin_create_delegate gets them. Resolves isa; the message of a refusal lists what is
// allowed.
Status ParseDelegateOptions(const char* const* keys, const char* const* values, size_t count, DelegateOptions* options);

// "key=value;key=value" or "". kInUse: only what may change once rows are stored.
enum class CacheStage { kCreation, kInUse };
Status ParseCacheSettings(const char* text, CacheStage stage, CacheSettings* settings);

// The text that ParseCacheSettings reads, with every key.
std::string FormatCacheSettings(const CacheSettings& settings);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ENGINE_OPTIONS_H_
