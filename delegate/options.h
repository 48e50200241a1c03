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

// What a row reads, and how (docs/op_spec.md, modes).
enum class Mode : uint8_t { kShadow, kDense, kInt8, kShadowPaper, kFloatEstimate, kBlockSparse, kNpuFull };
const char* ModeName(Mode mode);

inline constexpr double kAutoKeepRatio = 0.0;  // keep_ratio=auto: the plan's threshold; by rank, that of the paper
inline constexpr double kPaperKeepRatio = 0.2;

struct CacheSettings {
  Mode mode = Mode::kShadow;
  double keep_ratio = kAutoKeepRatio;
  double threshold = 0;    // mode shadow: above 0, goes before keep_ratio
  bool compensate = true;  // mode shadow
  int32_t min_k = 64;
  int32_t sinks = 1;
  int32_t latest = 1;
  double max_skipped_mass =
      0.01;  // mode shadow: share of a row's mass that may lie on pages it does not score; 0: scores all
  CacheType cache_type = CacheType::kFloat16;
  int64_t max_length = 32768;

  // A mode that leaves positions out keeps them all at keep_ratio 1.0, so nothing has to be ranked.
  bool dense() const { return mode == Mode::kDense || (selects() && threshold == 0 && keep_ratio >= 1.0); }
  // Whether an estimate graph's scores decide what is read.
  bool reads_scores() const { return !dense() && (mode == Mode::kShadow || mode == Mode::kShadowPaper); }
  bool selects() const { return mode != Mode::kDense && mode != Mode::kInt8 && mode != Mode::kNpuFull; }
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

// "key=value;key=value" or "". kInUse: only what may change once rows are stored.
enum class CacheStage { kCreation, kInUse };
Status ParseCacheSettings(const char* text, CacheStage stage, CacheSettings* settings);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_OPTIONS_H_
