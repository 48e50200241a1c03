#include "baselines/top_k.h"

#include <algorithm>
#include <cmath>

namespace shadow {

int64_t SelectedCount(const CacheSettings& settings, int64_t causal, double budget) {
  const double keep_ratio = settings.keep_ratio == kAutoKeepRatio ? kPaperKeepRatio : settings.keep_ratio;
  const double share = std::min(keep_ratio * budget, 1.0);
  const auto k = int64_t(std::floor(share * double(causal) + 0.5));
  return std::min(std::max<int64_t>(k, settings.min_k), causal);
}

ForcedRanges SplitForced(const CacheSettings& settings, int64_t causal, int64_t k) {
  // The row's own position is the first of the latest; k >= 1 always has room for it.
  int64_t left = k - 1;
  const int64_t sinks = std::min({int64_t{settings.sinks}, causal - 1, left});
  left -= sinks;
  const int64_t latest = std::min({std::max<int64_t>(settings.latest, 1) - 1, causal - 1 - sinks, left});
  left -= latest;
  return {sinks, causal - 1 - latest, left};
}

}  // namespace shadow
