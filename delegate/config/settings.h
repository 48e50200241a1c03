// What a cache is told: how its rows attend, and how it stores them (docs/op_spec.md, delegate options).
#ifndef SHADOWATTN_DELEGATE_CONFIG_SETTINGS_H_
#define SHADOWATTN_DELEGATE_CONFIG_SETTINGS_H_

#include <cstdint>

#include "config/mode.h"
#include "kernels/layout.h"

namespace shadow {

inline constexpr int64_t kLongestCache = int64_t{1} << 24;
inline constexpr double kAutoKeepRatio = 0.0;  // keep_ratio=auto: the plan's threshold; by rank, the paper's ratio

struct CacheSettings {
  explicit CacheSettings(const ModeTraits& its_mode) : mode(&its_mode) {}

  const ModeTraits* mode;
  double keep_ratio = kAutoKeepRatio;
  double threshold = 0;    // mode shadow: above 0, goes before keep_ratio
  bool compensate = true;  // mode shadow
  int32_t min_k = 64;
  int32_t sinks = 1;
  int32_t latest = 1;
  // Mode shadow: share of a row's mass that may lie on pages it does not score; 0: it scores all pages.
  double max_skipped_mass = 0.01;
  CacheType cache_type = CacheType::kFloat16;
  int64_t max_length = 32768;

  // A mode that could leave positions out is told to select them all, so that nothing has to be ranked.
  bool selects_all() const { return mode->selects && threshold == 0 && keep_ratio >= 1.0; }
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_CONFIG_SETTINGS_H_
