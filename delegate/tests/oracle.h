// The slow oracle of these tests: docs/op_spec.md (what it computes) for one row at a time, in float64.
#ifndef SHADOWATTN_DELEGATE_TESTS_ORACLE_H_
#define SHADOWATTN_DELEGATE_TESTS_ORACLE_H_

#include <cstdint>
#include <vector>

#include "op_options.h"
#include "options.h"

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

// Positions that row (t, head) keeps, ascending. scores: [t + 1].
std::vector<int64_t> OracleSelect(const std::vector<int64_t>& scores, const CacheSettings& settings);

// INT8 scores of row (t, head) with its causal positions.
std::vector<int64_t> OracleScores(const Text& text, const OracleOptions& options, int64_t t, int head);

// Output [d] of row (t, head) over `kept`.
std::vector<double> OracleAttend(const Text& text, const OracleOptions& options, int64_t t, int head,
                                 const std::vector<int64_t>& kept);

// Steps 1 to 4.
std::vector<double> OracleRow(const Text& text, const OracleOptions& options, int64_t t, int head);

}  // namespace shadow::testing

#endif  // SHADOWATTN_DELEGATE_TESTS_ORACLE_H_
