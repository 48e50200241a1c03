// Modes int8, block_sparse and npu_full, tile by tile: the same bits for any chunking, thread count and (integers) ISA;
// how far from exact attention; what they count and what memory they take. tests/integration holds them against the
// oracle.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "baselines/block_tile.h"
#include "baselines/npu_tile.h"
#include "baselines/top_k.h"
#include "tests/attention_bench.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

struct Case {
  OpOptions op;
  CacheSettings settings;
  int64_t length;
  int64_t chunk;
};

CacheSettings Settings(const std::string& mode, double keep_ratio = 0.3, int min_k = 8) {
  CacheSettings settings = MakeSettings("mode=" + mode);
  settings.keep_ratio = keep_ratio;
  settings.min_k = min_k;
  return settings;
}

Bytes ThisPlan(const OpOptions& op) { return PlanBytes(op, 0.0f, 4.0f / 127); }

std::vector<float> RunAll(const Case& c, const Text& text, ArchFlags arch, int num_threads, Statistics* statistics) {
  AttentionBench bench(c.op, c.settings, ThisPlan(c.op), {arch, num_threads});
  std::vector<float> out = bench.RunAll(text, c.chunk);
  *statistics = bench.statistics;
  return out;
}

double Largest(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::fabs(double(a[i]) - double(b[i])));
  return largest;
}

// Root of the mean square.
double Distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (double(a[i]) - double(b[i])) * (double(a[i]) - double(b[i]));
  return std::sqrt(sum / double(a.size()));
}

// Blocks of block_sparse have to lie within one chunk.
int64_t OtherChunk(const Case& c) {
  if (c.settings.mode->page_tiles) return c.chunk == 64 ? 192 : 64;
  return c.chunk == 1 ? 7 : std::max<int64_t>(1, c.chunk / 3);
}

void TestSameBits(const Case& c, std::mt19937* generator) {
  const Text text = RandomText(c.op, c.length, generator);
  Statistics s;
  const std::vector<float> out = RunAll(c, text, DetectArch(), 1, &s);
  for (float x : out) CHECK(std::isfinite(x));
  CHECK(RunAll(c, text, DetectArch(), 2, &s) == out);
  Case other = c;
  other.chunk = OtherChunk(c);
  CHECK(RunAll(other, text, DetectArch(), 1, &s) == out);
  // Integers are the same on every ISA: what is left is the rounding of a float32 sum.
  CHECK(Largest(RunAll(c, text, kArchScalar, 1, &s), out) < 64 * 1.2e-7 * 5);
}

void TestEveryShape(std::mt19937* generator) {
  for (const std::string mode : {"int8", "block_sparse", "npu_full"}) {
    const int64_t chunk = mode == "block_sparse" ? 64 : 50;
    TestSameBits({MakeOp(4, 2, 16), Settings(mode), 300, chunk}, generator);
    TestSameBits({MakeOp(5, 1, 40), Settings(mode), 131, chunk}, generator);
    TestSameBits({MakeOp(3, 3, 5), Settings(mode), 65, chunk}, generator);
    TestSameBits({MakeOp(3, 1, 80), Settings(mode), 64, chunk}, generator);
    TestSameBits({MakeOp(2, 2, 128), Settings(mode), 63, chunk}, generator);
    TestSameBits({MakeOp(9, 3, 64), Settings(mode), 700, 4 * chunk}, generator);
  }
}

void TestAgainstDense(std::mt19937* generator) {
  const Case exact{MakeOp(4, 2, 64), Settings("dense"), 400, 64};
  const Text text = RandomText(exact.op, exact.length, generator);
  Statistics s;
  const std::vector<float> dense = RunAll(exact, text, DetectArch(), 1, &s);
  const auto run = [&](const CacheSettings& settings) {
    return RunAll({exact.op, settings, exact.length, exact.chunk}, text, DetectArch(), 1, &s);
  };
  // Values are about 1 in size; a row averages them.
  const double int8 = Distance(run(Settings("int8")), dense);
  CHECK(int8 > 1e-5 && int8 < 0.005);
  CHECK(s.value_rows_read == s.causal_rows && s.rows == 4 * 400);
  // Out in steps of 4 / 127, probabilities in steps of 1 / 256: far coarser.
  const double npu = Distance(run(Settings("npu_full")), dense);
  CHECK(npu > 2 * int8 && npu < 0.2);
  // All pages selected: the same kernel over the same pages.
  CHECK(run(Settings("block_sparse", 0.9999)) == dense);
  CHECK(s.value_rows_read == s.causal_rows);
  CHECK(run(Settings("block_sparse", 0.01, 400)) == dense);  // rows up to min_k read everything
  CHECK(Largest(run(Settings("block_sparse")), dense) > 0);
}

void TestBlockSparseCounts(std::mt19937* generator) {
  const CacheSettings settings = Settings("block_sparse", 0.4, 1);
  const Case c{MakeOp(2, 1, 8), settings, 500, 64};
  Statistics s;
  RunAll(c, RandomText(c.op, c.length, generator), DetectArch(), 1, &s);
  int64_t read = 0;
  for (int64_t t = 0; t < 500; ++t) read += (SelectedPages(settings, t / 64 + 1) - 1) * 64 + t % 64 + 1;
  CHECK(s.value_rows_read == 2 * read && s.rows == 2 * 500);
  CHECK(SelectedPages(settings, 1) == 1 && SelectedPages(settings, 2) == 2 && SelectedPages(settings, 5) == 2);
  CHECK(SelectedPages(settings, 6) == 3 && SelectedPages(Settings("block_sparse", kAutoKeepRatio), 20) == 4);
}

void TestMemory(std::mt19937* generator) {
  const OpOptions op = MakeOp(2, 1, 64);
  const CacheSettings all = Settings("shadow", 1.0);
  const Text text = RandomText(op, 200, generator);
  std::vector<float> out(200 * 128);
  AttentionBench bench(op, all, ThisPlan(op), {});
  bench.Run(text, 0, 200, out.data());
  const int64_t plain = bench.backend().bytes();
  for (const std::string mode : {"int8", "npu_full", "block_sparse"}) {
    bench.backend().Configure(Settings(mode));
    CHECK(bench.backend().bytes() == plain);
    bench.Run(text, 199, 200, out.data());
    CHECK(bench.backend().bytes() > plain && bench.backend().bytes() < 2 * plain);
    const std::vector<float> first(out.begin(), out.begin() + 128);
    bench.backend().Truncate(100);  // the second page is open again
    bench.Run(text, 100, 200, out.data());
    // A block of queries is another one now: its mean is over more rows.
    CHECK(mode == "block_sparse" || std::equal(first.begin(), first.end(), out.begin() + 99 * 128));
  }
  bench.backend().Configure(all);
  CHECK(bench.backend().bytes() == plain);
}

void TestNoRanges() {
  const OpOptions op = MakeOp(2, 1, 16);
  Bytes bytes = ThisPlan(op);
  Plan plan;
  CHECK_OK(Plan::Parse(bytes.data(), bytes.size(), "plan", &plan));
  CHECK_OK(CheckStaticRanges(plan, 0));
  std::memset(bytes.data() + bytes.size() - 4 - 5 * sizeof(float), 0, 5 * sizeof(float));
  Seal(&bytes);
  CHECK_OK(Plan::Parse(bytes.data(), bytes.size(), "plan", &plan));
  CHECK_REFUSED(CheckStaticRanges(plan, 0), "mode npu_full needs static ranges");
}

}  // namespace

int main() {
  std::mt19937 generator(Seed());
  TestEveryShape(&generator);
  TestAgainstDense(&generator);
  TestBlockSparseCounts(&generator);
  TestMemory(&generator);
  TestNoRanges();
  return Finish();
}
