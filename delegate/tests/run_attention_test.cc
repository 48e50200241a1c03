// The tile loop against the oracle: selected positions, weights, compensation, chunks, threads; the sizes of tiles; and
// no row may know what comes after it.
#include "attention/run_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "attention/int8_scores.h"
#include "attention/page_skipping.h"
#include "tests/attention_bench.h"

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

CacheSettings Settings(const std::string& text) { return MakeSettings("cache_type=f32;max_length=40000;" + text); }

Text SharpText(const OpOptions& op, int64_t length, std::mt19937* generator) {
  Text text = RandomText(op, length, generator);
  for (float& q : text.q) q *= 3;  // weights of some spread
  return text;
}

// Runs a text chunk by chunk; returns [length][H*d].
std::vector<float> Run(const Case& c, const Text& text, const How& how, Statistics* statistics) {
  AttentionBench bench(c.op, c.settings, PlanBytes(c.op, kCentre, kScale), how);
  std::vector<float> out = bench.RunAll(text, c.chunk, c.attend_from);
  statistics->Add(bench.statistics);
  return out;
}

int rows_compared = 0;
int close_calls = 0;

void CheckRows(const Case& c, const Text& text, const std::vector<float>& out) {
  const OracleOptions oracle{c.op, c.settings, kCentre, kScale};
  const int d = c.op.head_dim;
  const int64_t step = std::max<int64_t>(1, (c.length - c.attend_from) / 50);
  for (int64_t t = c.length - 1; t >= c.attend_from; t -= step) {
    for (int head = 0; head < c.op.num_heads; ++head) {
      const OracleResult expected = OracleRow(text, oracle, t, head);
      ++rows_compared;
      close_calls += expected.close_call;
      if (expected.close_call) continue;
      double worst = 0;
      for (int i = 0; i < d; ++i) {
        worst = std::max(worst, std::fabs(double(out[(t * c.op.num_heads + head) * d + i]) - expected.out[i]));
      }
      CHECK(worst < 64 * 1.2e-7 * 5);  // a few float32 steps of the largest value
    }
  }
}

void TestCase(const Case& c, std::mt19937* generator) {
  const Text text = SharpText(c.op, c.length, generator);
  Statistics s;
  const std::vector<float> out = Run(c, text, {}, &s);
  CheckRows(c, text, out);
  CHECK(Run(c, text, {DetectArch(), 2}, &s) == out);  // thread count
  if (c.attend_from > 0) return;
  Case other = c;
  other.chunk = c.chunk == 1 ? 7 : std::max<int64_t>(1, c.chunk / 3);
  CHECK(Run(other, text, {}, &s) == out);  // chunking
  CheckRows(c, text, Run(c, text, {kArchScalar}, &s));
}

void TestAgainstOracle(std::mt19937* generator) {
  for (const char* settings : {"", "min_k=1", "min_k=8;sinks=0;latest=0", "keep_ratio=0.05;min_k=1;compensate=off",
                               "keep_ratio=0.9;min_k=1", "threshold=0.3;min_k=3;sinks=9;latest=9", "threshold=1e-30",
                               "keep_ratio=1", "mode=dense", "min_k=1;sinks=500;latest=500", "mode=shadow_paper",
                               "mode=shadow_paper;keep_ratio=0.7;min_k=40;sinks=3;latest=1",
                               "mode=shadow_paper;keep_ratio=1e-6;min_k=1;sinks=9;latest=9"}) {
    TestCase({MakeOp(4, 2, 16), Settings(settings), 300, 64}, generator);
    TestCase({MakeOp(5, 1, 40), Settings(settings), 131, 130}, generator);
    TestCase({MakeOp(3, 3, 5), Settings(settings), 70, 1}, generator);
  }
  // So long that a tile holds fewer rows than the group has heads.
  for (const char* settings : {"keep_ratio=0.01", "mode=shadow_paper;keep_ratio=0.02;min_k=8;sinks=4;latest=16"}) {
    TestCase({MakeOp(9, 1, 8), Settings(settings), 32860, 60, 32820}, generator);
  }
  CHECK(close_calls * 20 < rows_compared);
}

// Positions selected, counted one by one.
void TestStatistics(std::mt19937* generator) {
  for (const char* settings : {"min_k=2", "mode=shadow_paper;keep_ratio=0.25;min_k=2"}) {
    const Case c{MakeOp(4, 2, 8), Settings(settings), 100, 33};
    const Text text = SharpText(c.op, c.length, generator);
    Statistics s;
    Run(c, text, {DetectArch(), 2}, &s);
    int64_t selected = 0, unsure = 0;
    for (int64_t t = 0; t < 100; ++t) {
      for (int head = 0; head < 4; ++head) {
        const OracleResult row = OracleRow(text, {c.op, c.settings, kCentre, kScale}, t, head);
        selected += int64_t(row.selected.size());
        unsure += row.close_call;
      }
    }
    CHECK(s.rows == 400 && s.causal_rows == 4 * 5050 && std::abs(s.value_rows_read - selected) <= unsure);
    CHECK(s.seconds_estimate > 0 && s.seconds_select > 0 && s.seconds_attend > 0 && s.rows_not_compensated == 0);
  }
}

// All rows are in the cache before the first attends, so a row could read its future: then the change would show.
void TestFutureIsNotRead(std::mt19937* generator) {
  for (const char* settings : {"min_k=1", "threshold=0.2;min_k=1;compensate=off", "mode=shadow_paper;min_k=1",
                               "mode=float_estimate;min_k=1", "mode=dense"}) {
    const Case c{MakeOp(4, 2, 8), Settings(settings), 130, 130};
    const Text text = SharpText(c.op, c.length, generator);
    Statistics s;
    const std::vector<float> before = Run(c, text, {}, &s);
    for (int64_t row : {0, 1, 40, 62, 63, 64, 100, 127, 128}) {
      Text changed = text;
      for (size_t i = size_t(row + 1) * 16; i < text.v.size(); ++i) {
        changed.v[i] = 100 - 7 * text.v[i];
        changed.k[i] = 2 - 3 * text.k[i];
      }
      const std::vector<float> after = Run(c, changed, {}, &s);
      const auto end = before.begin() + (row + 1) * 32;
      CHECK(std::equal(before.begin(), end, after.begin()));
      CHECK(!std::equal(end, before.end(), after.begin() + (row + 1) * 32));
    }
  }
}

// No more rows than the sets of rows that score a page have room for, and every row once.
void TestTileSizes() {
  const CacheSettings settings = Settings("");
  for (int group : {1, 3, 7, 48, 50, 100}) {
    for (int64_t time : {1, 2, 47, 48, 49, 1000}) {
      for (int threads : {1, 2, 16}) {
        ChunkInputs in;
        in.op = MakeOp(2 * group, 2, 8);
        in.chunk = {0, 5000, time};
        in.time = time;
        AttendPart part;
        part.heads = HeadGroup::All(in.op);
        KvPages pages(CacheType::kFloat32);
        CpuResources resources(DetectArch(), threads);
        const float margins[200] = {};
        AttentionJob job{in,    part,           settings,          DefaultMode(), nullptr, nullptr, resources.kernels,
                         pages, resources.pool, resources.scratch, nullptr,       nullptr, margins};
        const Tiling tiling(job, {0, time});
        int64_t rows = 0;
        for (int64_t i = 0; i < tiling.count(); ++i) {
          const TileRows tile = tiling.Tile(job, 1, i);
          CHECK(tile.count() >= 1 && tile.count() <= kMaxTileRows);
          CHECK(MaySkipPages(tile, tile.count()) && RowsPerSoftmax(tile) <= std::max<int64_t>(6, tile.count()));
          rows += tile.count();
        }
        CHECK(rows == tiling.rows() && rows == time * group);
      }
    }
  }
}

void TestFactors(std::mt19937* generator) {
  const float infinity = std::numeric_limits<float>::infinity();
  const Case c{MakeOp(4, 2, 8), Settings("min_k=1"), 150, 50};
  const Text text = SharpText(c.op, c.length, generator);
  const float factors[] = {0, infinity, 1, 1e31f};
  Statistics s;
  const std::vector<float> out = Run(c, text, {DetectArch(), 1, factors}, &s);
  Case all = c;
  all.settings = Settings("threshold=1e-37;min_k=1");
  const std::vector<float> all_read = Run(all, text, {}, &s), own = Run(c, text, {}, &s);
  int wrong[4] = {};
  for (int64_t i = 0; i < 150 * 32; ++i) {
    const int64_t head = i % 32 / 8;
    wrong[head] += out[i] != (head == 0 ? all_read[i] : head == 2 ? own[i] : 0.0f);
  }
  CHECK(wrong[0] == 0 && wrong[2] == 0);  // reads all; as without factors
  CHECK(wrong[1] == 0 && wrong[3] == 0);  // puts out zeros
}

// Three heavy positions stay below the threshold, and the weight of the row's own underflows: zero, not NaN.
void TestOnlyZeroHasWeight(std::mt19937* generator) {
  const Case c{MakeOp(2, 1, 8), Settings("threshold=0.9;min_k=16;sinks=0;latest=1;compensate=off"), 90, 90};
  Text text = SharpText(c.op, c.length, generator);
  std::fill(text.q.begin(), text.q.end(), 40.0f);
  std::fill(text.k.begin(), text.k.end(), -100.0f);
  std::fill_n(text.k.begin() + 3 * 8, 3 * 8, 100.0f);
  Statistics s;
  const std::vector<float> out = Run(c, text, {}, &s);
  CHECK(std::all_of(out.begin() + 16 * 16, out.end(), [](float x) { return x == 0; }));
  CheckRows(c, text, out);
}

}  // namespace

int main() {
  std::mt19937 generator(Seed());
  TestAgainstOracle(&generator);
  TestStatistics(&generator);
  TestTileSizes();
  TestFutureIsNotRead(&generator);
  TestFactors(&generator);
  TestOnlyZeroHasWeight(&generator);
  std::printf("%d rows compared, %d left out as close calls\n", rows_compared, close_calls);
  return Finish();
}
