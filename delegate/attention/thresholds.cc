#include "attention/thresholds.h"

#include <algorithm>
#include <cmath>

namespace shadow {
namespace {

// Up to this causal length the plan's auto_threshold holds; beyond, it falls as 1 / length.
constexpr double kAutoLength = 2048;

// Where `value` lies among ascending entries: between `low` and `low + 1`, at `share` of the way.
struct Place {
  int low;
  double share;
};

Place Find(const std::vector<float>& entries, double value) {
  const int last = int(entries.size()) - 1;
  if (last == 0 || value <= entries[0]) return {0, 0.0};
  if (value >= entries[last]) return {last - 1, 1.0};
  const int above = int(std::upper_bound(entries.begin(), entries.end(), float(value)) - entries.begin());
  const int low = std::min(above, last) - 1;
  return {low, (value - entries[low]) / (double(entries[low + 1]) - entries[low])};
}

}  // namespace

Thresholds::Thresholds(const CacheSettings& settings, const Plan& plan) {
  if (settings.threshold > 0 || settings.keep_ratio == kAutoKeepRatio) {
    constant_ = settings.threshold > 0;
    points_ = {{kAutoLength, 1.0 / (constant_ ? settings.threshold : double(plan.auto_threshold()))}};
    return;
  }
  const ThresholdTable& table = plan.thresholds();
  const Place place = Find(table.keep_ratios, settings.keep_ratio);
  for (size_t i = 0; i < table.lengths.size(); ++i) {
    const auto at = [&](int row) { return 1.0 / double(table.at(row, int(i))); };
    const double low = at(place.low);
    const double high = place.share > 0 ? at(place.low + 1) : low;
    points_.push_back({double(table.lengths[i]), low + (high - low) * place.share});
  }
}

double Thresholds::At(int64_t causal) const {
  const auto length = double(causal);
  if (constant_ || length <= points_.front().length) return 1.0 / points_.front().inverse;
  const Point& last = points_.back();
  if (length >= last.length) return 1.0 / (last.inverse * (length / last.length));
  const auto above = std::upper_bound(points_.begin(), points_.end(), length,
                                      [](double value, const Point& point) { return value < point.length; });
  const Point& low = *(above - 1);
  return 1.0 / (low.inverse + (above->inverse - low.inverse) * ((length - low.length) / (above->length - low.length)));
}

}  // namespace shadow
