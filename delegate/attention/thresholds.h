// The least probability of a position that a row selects (docs/op_spec.md, select): by causal length, from the plan's
// table or a setting.
#ifndef SHADOWATTN_DELEGATE_ATTENTION_THRESHOLDS_H_
#define SHADOWATTN_DELEGATE_ATTENTION_THRESHOLDS_H_

#include <cstdint>
#include <vector>

#include "config/plan.h"
#include "config/settings.h"

namespace shadow {

class Thresholds {
 public:
  // settings.threshold if it is set, else the plan's for settings.keep_ratio.
  Thresholds(const CacheSettings& settings, const Plan& plan);

  // At a causal length, before the factor of the head: 1 / threshold is linear in the length between those of the
  // table, and proportional to it beyond the longest, so that a share stays a share. float64, so that every machine
  // agrees.
  double At(int64_t causal) const;

 private:
  struct Point {
    double length;
    double inverse;  // 1 / threshold
  };
  bool constant_ = false;
  std::vector<Point> points_;  // ascending lengths, at least one
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ATTENTION_THRESHOLDS_H_
