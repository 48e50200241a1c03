// The slow oracle of these tests: docs/op_spec.md (what it computes) for one row at a time, in float64. It knows the
// plan that PackPlan (format_bytes.h) writes, and the modes dense, shadow (fused form) and shadow_paper.
#ifndef SHADOWATTN_DELEGATE_TESTS_ORACLE_H_
#define SHADOWATTN_DELEGATE_TESTS_ORACLE_H_

#include <cstdint>
#include <vector>

#include "config/op_options.h"
#include "config/settings.h"

namespace shadow::testing {

// A text as the model would produce it: q [n][H][d], k and v [n][N_kv][d].
struct Text {
  int64_t length;
  std::vector<float> q;
  std::vector<float> k;
  std::vector<float> v;
};

struct OracleOptions {
  OpOptions op;
  CacheSettings settings;
  float centre;  // the same for every channel and head
  float scale;
};

struct OracleResult {
  std::vector<double> out;        // [d]
  std::vector<int64_t> selected;  // ascending
  // A weight lies so near the threshold that float32 may put it on the other side: nothing to compare with.
  bool close_call = false;
};

// Positions that row (t, head) selects by rank, ascending. scores: [t + 1].
std::vector<int64_t> OracleSelect(const std::vector<int64_t>& scores, const CacheSettings& settings,
                                  double budget = 1.0);

// The threshold of a row with n visible positions, before the factor of its head.
double OracleThreshold(const CacheSettings& settings, int64_t n);

// INT8 scores of row (t, head) with its causal positions.
std::vector<int64_t> OracleScores(const Text& text, const OracleOptions& options, int64_t t, int head);

// Steps 1 to 5.
OracleResult OracleRow(const Text& text, const OracleOptions& options, int64_t t, int head);

}  // namespace shadow::testing

#endif  // SHADOWATTN_DELEGATE_TESTS_ORACLE_H_
