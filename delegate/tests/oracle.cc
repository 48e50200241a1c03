#include "tests/oracle.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

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

std::vector<int64_t> OracleSelect(const std::vector<int64_t>& scores, const CacheSettings& settings) {
  const auto n = int64_t(scores.size());
  const auto share = int64_t(std::floor(settings.keep_ratio * double(n) + 0.5));
  const int64_t k = std::min(std::max<int64_t>(share, settings.min_k), n);
  std::set<int64_t> kept;
  const auto keep = [&](int64_t position) {
    if (int64_t(kept.size()) < k && position >= 0 && position < n) kept.insert(position);
  };
  keep(n - 1);
  for (int64_t position = 0; position < std::min<int64_t>(settings.sinks, n); ++position) keep(position);
  for (int64_t i = 1; i <= std::min<int64_t>(settings.latest, n); ++i) keep(n - i);
  std::vector<int64_t> best = AllPositions(n);
  std::sort(best.begin(), best.end(),
            [&](int64_t a, int64_t b) { return scores[a] != scores[b] ? scores[a] > scores[b] : a > b; });
  for (int64_t position : best) keep(position);
  return std::vector<int64_t>(kept.begin(), kept.end());
}

std::vector<double> OracleAttend(const Text& text, const OracleOptions& o, int64_t t, int head,
                                 const std::vector<int64_t>& kept) {
  const int d = o.op.head_dim;
  const float* q = Row(text.q, t, head, o.op.num_heads, d);
  std::vector<double> logits;
  for (int64_t position : kept) {
    const float* k = Row(text.k, position, head / o.op.group(), o.op.num_kv_heads, d);
    logits.push_back(o.op.softmax_scale * std::inner_product(q, q + d, k, 0.0));
  }
  const double largest = *std::max_element(logits.begin(), logits.end());
  std::vector<double> out(d, 0.0);
  double total = 0;
  for (size_t i = 0; i < kept.size(); ++i) {
    const float* v = Row(text.v, kept[i], head / o.op.group(), o.op.num_kv_heads, d);
    const double weight = std::exp(logits[i] - largest);
    total += weight;
    for (int c = 0; c < d; ++c) out[c] += weight * v[c];
  }
  for (double& value : out) value /= total;
  return out;
}

std::vector<double> OracleRow(const Text& text, const OracleOptions& o, int64_t t, int head) {
  if (o.settings.dense()) return OracleAttend(text, o, t, head, AllPositions(t + 1));
  return OracleAttend(text, o, t, head, OracleSelect(OracleScores(text, o, t, head), o.settings));
}

}  // namespace shadow::testing
