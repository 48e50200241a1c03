// How small a probability a row still reads (docs/op_spec.md, choose): by causal length, from the plan's table or a
// setting.
#ifndef SHADOWATTN_DELEGATE_ATTENTION_THRESHOLDS_H_
#define SHADOWATTN_DELEGATE_ATTENTION_THRESHOLDS_H_

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "config/plan.h"
#include "engine/options.h"

namespace shadow {

class Thresholds {
 public:
  // settings.threshold if it is set, else the plan's for settings.keep_ratio. Refuses a plan that has none.
  static Status Create(const CacheSettings& settings, const Plan& plan, Thresholds* thresholds);

  // Of a row that sees `causal` positions, before the factor of its head: linear in the length between those of the
  // table (of 1 / threshold), and like 1 / causal beyond the longest, so that a share stays a share. float64, so that
  // every machine agrees.
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
