// Which positions a row selects by rank (modes shadow_paper and float_estimate; docs/op_spec.md, k best).
#ifndef SHADOWATTN_DELEGATE_BASELINES_TOP_K_H_
#define SHADOWATTN_DELEGATE_BASELINES_TOP_K_H_

#include <cstdint>

#include "config/settings.h"

namespace shadow {

inline constexpr double kPaperKeepRatio = 0.2;  // of keep_ratio=auto

// k of a row with `causal` visible positions, of a head whose budget is `budget` times the mean.
int64_t SelectedCount(const CacheSettings& settings, int64_t causal, double budget = 1.0);

// The positions that a row selects whatever their score, as two ranges around the scored one: [0, scored_begin) and
// [scored_end, causal). Of the scored range it selects `scored_k`.
struct ForcedRanges {
  int64_t scored_begin;
  int64_t scored_end;
  int64_t scored_k;
};
ForcedRanges SplitForced(const CacheSettings& settings, int64_t causal, int64_t k);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_BASELINES_TOP_K_H_
