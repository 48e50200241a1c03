#include "tests/oracle.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <numeric>
#include <set>
#include <string>

namespace shadow::testing {
namespace {

const float* Row(const std::vector<float>& rows, int64_t t, int head, int num_heads, int d) {
  return rows.data() + (t * num_heads + head) * d;
}

float Rounded(float value) { return std::nearbyint(value); }  // half to even

std::vector<int64_t> AllPositions(int64_t count) {
  std::vector<int64_t> positions(count);
  std::iota(positions.begin(), positions.end(), 0);
  return positions;
}

struct RowOf {
  const Text& text;
  const OracleOptions& options;
  int64_t t;
  int head;

  const float* q() const { return Row(text.q, t, head, options.op.num_heads, options.op.head_dim); }
  const float* of(const std::vector<float>& rows, int64_t position) const {
    return Row(rows, position, head / options.op.group(), options.op.num_kv_heads, options.op.head_dim);
  }
};

void AddValue(const RowOf& row, int64_t position, double weight, std::vector<double>* out) {
  const float* v = row.of(row.text.v, position);
  for (size_t c = 0; c < out->size(); ++c) (*out)[c] += weight * double(v[c]);
}

// Exact attention over the selected positions.
std::vector<double> Attend(const RowOf& row, const std::vector<int64_t>& selected) {
  const int d = row.options.op.head_dim;
  std::vector<double> logits;
  for (int64_t position : selected) {
    const float* k = row.of(row.text.k, position);
    logits.push_back(double(row.options.op.softmax_scale) * std::inner_product(row.q(), row.q() + d, k, 0.0));
  }
  const double largest = *std::max_element(logits.begin(), logits.end());
  std::vector<double> out(d, 0.0);
  double total = 0;
  for (size_t i = 0; i < selected.size(); ++i) {
    const double weight = std::exp(logits[i] - largest);
    total += weight;
    AddValue(row, selected[i], weight, &out);
  }
  for (double& value : out) value /= total;
  return out;
}

// Logits of one step of the INT8 scores.
double Step(const RowOf& row) {
  const float* q = row.q();
  double largest = 0;
  for (int c = 0; c < row.options.op.head_dim; ++c) largest = std::max(largest, std::fabs(double(q[c])));
  return double(row.options.op.softmax_scale) * double(row.options.scale) * largest / 127;
}

// exp(step * below), by the quadratic of docs/op_spec.md, step 3.
double Weight(double step, int64_t below) {
  const double x = std::log2(std::exp(1.0)) * step * double(below), n = std::floor(x), f = x - n;
  if (n < -126) return 0;
  return std::exp2(n) * (0.99926 + f * (0.66591 + f * 0.33335));
}

std::vector<double> Relative(const std::vector<int64_t>& scores, double step, int64_t reference) {
  std::vector<double> weights;
  for (int64_t score : scores) weights.push_back(Weight(step, score - reference));
  return weights;
}

// To the best of the row's own page, or of all where they would be too large.
std::vector<double> Weights(const std::vector<int64_t>& scores, double step) {
  const auto own_page = scores.begin() + (int64_t(scores.size()) - 1) / 64 * 64;
  const std::vector<double> weights = Relative(scores, step, *std::max_element(own_page, scores.end()));
  if (std::accumulate(weights.begin(), weights.end(), 0.0) <= 0x1p100) return weights;
  return Relative(scores, step, *std::max_element(scores.begin(), scores.end()));
}

// The mass of a page's positions that are not selected: three quarters spread evenly over its visible positions, a
// quarter over the selected ones from position `sinks` on, if there are any.
void AddResidual(const RowOf& row, const std::vector<double>& page_residual, const std::vector<int64_t>& selected,
                 std::vector<double>* out) {
  const auto n = int64_t(page_residual.size());
  for (int64_t begin = 0; begin < n; begin += 64) {
    const int64_t end = std::min(begin + 64, n);
    const double mass = std::accumulate(page_residual.begin() + begin, page_residual.begin() + end, 0.0);
    const auto first =
        std::lower_bound(selected.begin(), selected.end(), std::max<int64_t>(begin, row.options.settings.sinks));
    const auto last = std::max(first, std::lower_bound(selected.begin(), selected.end(), end));
    const double shared = first == last ? 0.0 : 0.25;
    for (int64_t j = begin; j < end; ++j) AddValue(row, j, mass * (1 - shared) / double(end - begin), out);
    for (auto j = first; j != last; ++j) AddValue(row, *j, mass * shared / double(last - first), out);
  }
}

OracleResult ShadowRow(const RowOf& row) {
  const CacheSettings& settings = row.options.settings;
  const int64_t n = row.t + 1;
  std::vector<double> weights = Weights(OracleScores(row.text, row.options, row.t, row.head), Step(row));
  const double mass = std::accumulate(weights.begin() + std::min<int64_t>(settings.sinks, n), weights.end(), 0.0);
  const double least = std::max(OracleThreshold(settings, n) * (row.head % 2 == 0 ? 1.0 : 0.5) * mass, double(FLT_MIN));
  OracleResult result{std::vector<double>(row.options.op.head_dim, 0.0), {}};
  double total = 0;
  for (int64_t j = 0; j < n; ++j) {
    const bool forced = j < settings.sinks || j >= n - std::max(settings.latest, 1);
    if (!forced && std::fabs(weights[j] / least - 1) < 3e-5) result.close_call = true;
    if (!forced && weights[j] < least) continue;
    result.selected.push_back(j);
    AddValue(row, j, weights[j], &result.out);
    total += weights[j];
    weights[j] = 0;
  }
  if (settings.compensate) {
    AddResidual(row, weights, result.selected, &result.out);
    total += std::accumulate(weights.begin(), weights.end(), 0.0);
  }
  for (double& value : result.out) value = total > 0 ? value / total : 0.0;
  return result;
}

}  // namespace

std::vector<int64_t> OracleScores(const Text& text, const OracleOptions& o, int64_t t, int head) {
  const int d = o.op.head_dim;
  const float* q = Row(text.q, t, head, o.op.num_heads, d);
  float largest = 0;
  for (int c = 0; c < d; ++c) largest = std::max(largest, std::fabs(q[c]));
  const float q_scale = largest > 0 ? 127.0f / largest : 0.0f;
  const float k_scale = 1.0f / o.scale;
  std::vector<int64_t> scores;
  for (int64_t position = 0; position <= t; ++position) {
    const float* k = Row(text.k, position, head / o.op.group(), o.op.num_kv_heads, d);
    int64_t score = 0;
    for (int c = 0; c < d; ++c) {
      const float centred = k[c] - o.centre;
      const float key = std::clamp(Rounded(centred * k_scale), -127.0f, 127.0f);
      score += int64_t(Rounded(q[c] * q_scale)) * int64_t(key);
    }
    scores.push_back(score);
  }
  return scores;
}

std::vector<int64_t> OracleSelect(const std::vector<int64_t>& scores, const CacheSettings& settings, double budget) {
  const auto n = int64_t(scores.size());
  const double keep_ratio = settings.keep_ratio == kAutoKeepRatio ? 0.2 : settings.keep_ratio;
  const auto share = int64_t(std::floor(std::min(keep_ratio * budget, 1.0) * double(n) + 0.5));
  const int64_t k = std::min(std::max<int64_t>(share, settings.min_k), n);
  std::set<int64_t> selected;
  const auto select = [&](int64_t position) {
    if (int64_t(selected.size()) < k && position >= 0 && position < n) selected.insert(position);
  };
  select(n - 1);
  for (int64_t position = 0; position < std::min<int64_t>(settings.sinks, n); ++position) select(position);
  for (int64_t i = 1; i <= std::min<int64_t>(settings.latest, n); ++i) select(n - i);
  std::vector<int64_t> best = AllPositions(n);
  std::sort(best.begin(), best.end(),
            [&](int64_t a, int64_t b) { return scores[a] != scores[b] ? scores[a] > scores[b] : a > b; });
  for (int64_t position : best) select(position);
  return std::vector<int64_t>(selected.begin(), selected.end());
}

double OracleThreshold(const CacheSettings& settings, int64_t n) {
  if (settings.threshold > 0) return settings.threshold;
  if (settings.keep_ratio == kAutoKeepRatio) return 1.0 / 64;
  // The plan's table is a sample of 1 / (1 + 4 keep_ratio n), from 0.01 to 1 and from 64 to 256.
  const double ratio = std::clamp(settings.keep_ratio, 0.01, 1.0);
  const double at = std::clamp(double(n), 64.0, 256.0);
  return 1.0 / ((1 + 4 * ratio * at) * std::max(1.0, double(n) / 256));
}

OracleResult OracleRow(const Text& text, const OracleOptions& o, int64_t t, int head) {
  const std::string mode = o.settings.mode->name;
  const bool all = mode == "dense" || (o.settings.keep_ratio >= 1 && o.settings.threshold == 0);
  const bool dense = all || t + 1 <= o.settings.min_k;
  if (!dense && mode == "shadow") return ShadowRow({text, o, t, head});
  std::vector<int64_t> selected = AllPositions(t + 1);
  if (!dense) selected = OracleSelect(OracleScores(text, o, t, head), o.settings, head % 2 == 0 ? 0.75 : 1.25);
  return {Attend({text, o, t, head}, selected), selected};
}

}  // namespace shadow::testing
