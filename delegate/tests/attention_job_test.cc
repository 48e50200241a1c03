// The tile loop against the oracle: kept positions, tile sizes that follow the length, both forms, dense, threads.
#include "attention_tile.h"

#include <algorithm>
#include <cmath>

#include "append_rows.h"
#include "tests/check.h"
#include "tests/format_bytes.h"
#include "tests/oracle.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

constexpr float kCentre = 0.125f;
constexpr float kScale = 2.5f / 127;  // tight: some keys saturate

struct Case {
  OpOptions op;
  CacheSettings settings;
  int64_t length;
  int64_t chunk;
  int64_t attend_from = 0;  // earlier chunks are only appended
};

OpOptions MakeOp(int num_heads, int num_kv_heads, int head_dim) {
  return {kFormFused, 0, 1, num_heads, num_kv_heads, head_dim, 1.0f / std::sqrt(float(head_dim)), 0};
}

CacheSettings MakeSettings(double keep_ratio, int min_k, int sinks, int latest) {
  CacheSettings settings;
  settings.keep_ratio = keep_ratio;
  settings.min_k = min_k;
  settings.sinks = sinks;
  settings.latest = latest;
  settings.cache_type = CacheType::kFloat32;
  settings.max_length = 40000;
  return settings;
}

Text RandomText(const OpOptions& op, int64_t length, std::mt19937* generator) {
  const size_t kv = size_t(length) * op.num_kv_heads * op.head_dim;
  return {length, RandomFloats(size_t(length) * op.num_heads * op.head_dim, generator), RandomFloats(kv, generator),
          RandomFloats(kv, generator)};
}

Plan MakePlan(const OpOptions& op) {
  const Bytes bytes = PackPlan({op.num_layers, op.num_heads, op.num_kv_heads, op.head_dim}, kCentre, kScale);
  Plan plan;
  CHECK_OK(Plan::Parse(bytes.data(), bytes.size(), "plan", &plan));
  return plan;
}

// Runs a text chunk by chunk; returns [length][H*d].
std::vector<float> Run(const Case& c, const Text& text, ArchFlags arch, int num_threads, Statistics* statistics) {
  const KernelTable kernels(arch);
  const Plan plan = MakePlan(c.op);
  ThreadPool pool(num_threads);
  KvCache cache(0, c.settings);
  CHECK_OK(cache.Bind(c.op, true));
  const int64_t width = int64_t{c.op.num_heads} * c.op.head_dim;
  const int64_t kv_width = int64_t{c.op.num_kv_heads} * c.op.head_dim;
  std::vector<float> out(c.length * width);
  for (int64_t position = 0; position < c.length; position += c.chunk) {
    const Chunk chunk{0, position, std::min(c.chunk, c.length - position)};
    const NewRows rows{text.k.data() + position * kv_width, text.v.data() + position * kv_width, c.op.num_kv_heads,
                       c.op.head_dim};
    CHECK_OK(AppendRows(rows, chunk, &plan, kernels, &pool, &cache));
    const AttentionJob job{c.op,
                           kernels,
                           cache,
                           c.settings,
                           chunk,
                           c.chunk,
                           text.q.data() + position * width,
                           out.data() + position * width,
                           nullptr};
    if (position >= c.attend_from) CHECK_OK(RunAttention(job, &pool, statistics));
    cache.Commit(chunk);
  }
  return out;
}

void CheckRows(const Case& c, const Text& text, const std::vector<float>& out) {
  const OracleOptions oracle{c.op, c.settings, kCentre, kScale};
  const int d = c.op.head_dim;
  const int64_t step = std::max<int64_t>(1, (c.length - c.attend_from) / 50);
  for (int64_t t = c.length - 1; t >= c.attend_from; t -= step) {
    for (int head = 0; head < c.op.num_heads; ++head) {
      const std::vector<double> expected = OracleRow(text, oracle, t, head);
      double worst = 0;
      for (int i = 0; i < d; ++i) {
        worst = std::max(worst, std::fabs(out[(t * c.op.num_heads + head) * d + i] - expected[i]));
      }
      CHECK(worst < 64 * 1.2e-7 * 5);  // a few float32 steps of the largest value
    }
  }
}

void TestCase(const Case& c, std::mt19937* generator) {
  const Text text = RandomText(c.op, c.length, generator);
  Statistics s;
  const std::vector<float> out = Run(c, text, DetectArch(), 1, &s);
  CheckRows(c, text, out);
  CHECK(Run(c, text, DetectArch(), 2, &s) == out);  // thread count
  if (c.attend_from > 0) return;
  Case other = c;
  other.chunk = c.chunk == 1 ? 7 : std::max<int64_t>(1, c.chunk / 3);
  CHECK(Run(other, text, DetectArch(), 1, &s) == out);  // chunking
  CheckRows(c, text, Run(c, text, kArchScalar, 1, &s));
}

void TestAgainstOracle(std::mt19937* generator) {
  for (const CacheSettings& settings :
       {MakeSettings(0.2, 1, 4, 16), MakeSettings(0.05, 8, 0, 0), MakeSettings(1e-6, 1, 9, 9),
        MakeSettings(0.7, 40, 3, 1), MakeSettings(1.0, 1, 0, 0), MakeSettings(0.1, 1, 500, 500)}) {
    TestCase({MakeOp(4, 2, 16), settings, 300, 64}, generator);
    TestCase({MakeOp(5, 1, 40), settings, 131, 130}, generator);
    TestCase({MakeOp(3, 3, 5), settings, 70, 1}, generator);
  }
  // So long that a tile holds fewer rows than the group has heads.
  TestCase({MakeOp(9, 1, 8), MakeSettings(0.02, 8, 4, 16), 32860, 60, 32820}, generator);
}

void TestStatistics(std::mt19937* generator) {
  const Case c{MakeOp(4, 2, 8), MakeSettings(0.25, 2, 1, 1), 100, 33};
  Statistics s;
  Run(c, RandomText(c.op, c.length, generator), DetectArch(), 2, &s);
  int64_t kept = 0;
  for (int64_t n = 1; n <= 100; ++n) kept += KeptPositions(c.settings, n);
  CHECK(s.rows == 400 && s.causal_rows == 4 * 5050 && s.value_rows_read == 4 * kept);
  CHECK(s.seconds_estimate > 0 && s.seconds_select > 0 && s.seconds_attend > 0);
}

void TestKeptRanges() {
  for (int sinks : {0, 1, 4, 50}) {
    for (int latest : {0, 1, 2, 16, 50}) {
      const CacheSettings settings = MakeSettings(0.3, 3, sinks, latest);
      for (int64_t n = 1; n < 80; ++n) {
        const int64_t k = KeptPositions(settings, n);
        const KeptRanges kept = SplitKept(settings, n, k);
        CHECK(0 <= kept.scored_begin && kept.scored_begin <= kept.scored_end && kept.scored_end < n);
        CHECK(0 <= kept.scored_k && kept.scored_k <= kept.scored_end - kept.scored_begin);
        CHECK(kept.scored_begin + kept.scored_k + n - kept.scored_end == k);
        std::vector<int64_t> equal(n, 0);  // equal scores: newest first, so the last of the scored range
        const std::vector<int64_t> wanted = OracleSelect(equal, settings);
        CHECK(int64_t(wanted.size()) == k);
        for (int64_t i = 0; i < kept.scored_begin; ++i) CHECK(wanted[i] == i);
        for (int64_t i = 0; i < kept.scored_k; ++i) {
          CHECK(wanted[kept.scored_begin + i] == kept.scored_end - kept.scored_k + i);
        }
      }
    }
  }
}

}  // namespace

int main() {
  std::mt19937 generator(Seed());
  TestKeptRanges();
  TestAgainstOracle(&generator);
  TestStatistics(&generator);
  return Finish();
}
