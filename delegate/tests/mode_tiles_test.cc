// Modes int8, block_sparse and npu_full, tile by tile: the same bits for any chunking, thread count and (integers) ISA;
// how far from exact attention; what they count and what memory they take. tests/integration holds them against the
// oracle.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "append_rows.h"
#include "attention_job.h"
#include "block_tile.h"
#include "tests/check.h"
#include "tests/format_bytes.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

struct Case {
  OpOptions op;
  CacheSettings settings;
  int64_t length;
  int64_t chunk;
};

struct Text {
  std::vector<float> q, k, v;
};

OpOptions MakeOp(int num_heads, int num_kv_heads, int head_dim) {
  return {kFormFused, 0, 1, num_heads, num_kv_heads, head_dim, 1.0f / std::sqrt(float(head_dim)), 0};
}

CacheSettings MakeSettings(Mode mode, double keep_ratio = 0.3, int min_k = 8) {
  CacheSettings settings;
  settings.mode = mode;
  settings.keep_ratio = keep_ratio;
  settings.min_k = min_k;
  return settings;
}

Text RandomText(const Case& c, std::mt19937* generator) {
  const size_t kv = size_t(c.length) * c.op.num_kv_heads * c.op.head_dim;
  return {RandomFloats(size_t(c.length) * c.op.num_heads * c.op.head_dim, generator), RandomFloats(kv, generator),
          RandomFloats(kv, generator)};
}

Bytes PlanBytes(const OpOptions& op) {
  return PackPlan({op.num_layers, op.num_heads, op.num_kv_heads, op.head_dim}, 0.0f, 4.0f / 127);
}

// A cache, and what it takes to attend over it.
struct Bench {
  Bench(const OpOptions& model, const CacheSettings& settings, ArchFlags arch, int num_threads)
      : op(model), kernels(arch), pool(num_threads), cache(0, settings) {
    const Bytes bytes = PlanBytes(op);
    CHECK_OK(Plan::Parse(bytes.data(), bytes.size(), "plan", &plan));
    CHECK_OK(cache.Bind(op, true));
  }

  // Rows [position, end) of the text; out [rows][H*d].
  Status Run(const Text& text, int64_t position, int64_t end, float* out) {
    const int64_t kv_width = int64_t{op.num_kv_heads} * op.head_dim, width = int64_t{op.num_heads} * op.head_dim;
    const Chunk chunk{0, position, end - position};
    const NewRows rows{text.k.data() + position * kv_width, text.v.data() + position * kv_width, op.num_kv_heads,
                       op.head_dim};
    SHADOW_RETURN_IF_ERROR(AppendRows(rows, chunk, &plan, kernels, &pool, &cache));
    const AttentionJob job{op,
                           kernels,
                           cache,
                           &plan,
                           nullptr,
                           nullptr,
                           cache.settings(),
                           chunk,
                           chunk.n_valid,
                           text.q.data() + position * width,
                           out,
                           HeadGroup::All(op),
                           {}};
    SHADOW_RETURN_IF_ERROR(RunAttention(job, &pool, &statistics));
    cache.Commit(chunk);
    return Status::Ok();
  }

  OpOptions op;
  KernelTable kernels;
  ThreadPool pool;
  KvCache cache;
  Plan plan;
  Statistics statistics;
};

std::vector<float> RunAll(const Case& c, const Text& text, ArchFlags arch, int num_threads, Statistics* statistics) {
  Bench bench(c.op, c.settings, arch, num_threads);
  const int64_t width = int64_t{c.op.num_heads} * c.op.head_dim;
  std::vector<float> out(c.length * width);
  for (int64_t position = 0; position < c.length; position += c.chunk) {
    CHECK_OK(bench.Run(text, position, std::min(c.length, position + c.chunk), out.data() + position * width));
  }
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
  if (c.settings.mode == Mode::kBlockSparse) return c.chunk == 64 ? 192 : 64;
  return c.chunk == 1 ? 7 : std::max<int64_t>(1, c.chunk / 3);
}

void TestSameBits(const Case& c, std::mt19937* generator) {
  const Text text = RandomText(c, generator);
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
  for (Mode mode : {Mode::kInt8, Mode::kBlockSparse, Mode::kNpuFull}) {
    const int64_t chunk = mode == Mode::kBlockSparse ? 64 : 50;
    TestSameBits({MakeOp(4, 2, 16), MakeSettings(mode), 300, chunk}, generator);
    TestSameBits({MakeOp(5, 1, 40), MakeSettings(mode), 131, chunk}, generator);
    TestSameBits({MakeOp(3, 3, 5), MakeSettings(mode), 65, chunk}, generator);
    TestSameBits({MakeOp(3, 1, 80), MakeSettings(mode), 64, chunk}, generator);
    TestSameBits({MakeOp(2, 2, 128), MakeSettings(mode), 63, chunk}, generator);
    TestSameBits({MakeOp(9, 3, 64), MakeSettings(mode), 700, 4 * chunk}, generator);
  }
}

void TestAgainstDense(std::mt19937* generator) {
  const Case exact{MakeOp(4, 2, 64), MakeSettings(Mode::kDense), 400, 64};
  const Text text = RandomText(exact, generator);
  Statistics s;
  const std::vector<float> dense = RunAll(exact, text, DetectArch(), 1, &s);
  const auto run = [&](const CacheSettings& settings) {
    return RunAll({exact.op, settings, exact.length, exact.chunk}, text, DetectArch(), 1, &s);
  };
  // Values are about 1 in size; a row averages them.
  const double int8 = Distance(run(MakeSettings(Mode::kInt8)), dense);
  CHECK(int8 > 1e-5 && int8 < 0.005);
  CHECK(s.value_rows_read == s.causal_rows && s.rows == 4 * 400);
  // Out in steps of 4 / 127, probabilities in steps of 1 / 256: far coarser.
  const double npu = Distance(run(MakeSettings(Mode::kNpuFull)), dense);
  CHECK(npu > 2 * int8 && npu < 0.2);
  // All pages kept: the same kernel over the same pages.
  CHECK(run(MakeSettings(Mode::kBlockSparse, 0.9999)) == dense);
  CHECK(s.value_rows_read == s.causal_rows);
  CHECK(run(MakeSettings(Mode::kBlockSparse, 0.01, 400)) == dense);  // rows up to min_k read everything
  CHECK(Largest(run(MakeSettings(Mode::kBlockSparse)), dense) > 0);
}

void TestBlockSparseCounts(std::mt19937* generator) {
  const CacheSettings settings = MakeSettings(Mode::kBlockSparse, 0.4, 1);
  const Case c{MakeOp(2, 1, 8), settings, 500, 64};
  Statistics s;
  RunAll(c, RandomText(c, generator), DetectArch(), 1, &s);
  int64_t read = 0;
  for (int64_t t = 0; t < 500; ++t) read += (SelectedPages(settings, t / 64 + 1) - 1) * 64 + t % 64 + 1;
  CHECK(s.value_rows_read == 2 * read && s.rows == 2 * 500);
  CHECK(SelectedPages(settings, 1) == 1 && SelectedPages(settings, 2) == 2 && SelectedPages(settings, 5) == 2);
  CHECK(SelectedPages(settings, 6) == 3 && SelectedPages(MakeSettings(Mode::kBlockSparse, kAutoKeepRatio), 20) == 4);
}

void TestMemory(std::mt19937* generator) {
  const Case c{MakeOp(2, 1, 64), MakeSettings(Mode::kShadow, 1.0), 200, 200};
  const Text text = RandomText(c, generator);
  std::vector<float> out(200 * 128);
  Bench bench(c.op, c.settings, DetectArch(), 1);
  CHECK_OK(bench.Run(text, 0, 200, out.data()));
  const int64_t plain = bench.cache.bytes();
  for (Mode mode : {Mode::kInt8, Mode::kNpuFull, Mode::kBlockSparse}) {
    bench.cache.Configure(MakeSettings(mode));
    CHECK(bench.cache.bytes() == plain);
    CHECK_OK(bench.Run(text, 199, 200, out.data()));
    CHECK(bench.cache.bytes() > plain && bench.cache.bytes() < 2 * plain);
    const std::vector<float> first(out.begin(), out.begin() + 128);
    CHECK_OK(bench.cache.Rewind(100));  // the second page is open again
    CHECK_OK(bench.Run(text, 100, 200, out.data()));
    // A block of queries is another one now: its mean is over more rows.
    CHECK(mode == Mode::kBlockSparse || std::equal(first.begin(), first.end(), out.begin() + 99 * 128));
  }
  bench.cache.Configure(c.settings);
  CHECK(bench.cache.bytes() == plain);
}

void TestNoRanges(std::mt19937* generator) {
  const Case c{MakeOp(2, 1, 16), MakeSettings(Mode::kNpuFull), 10, 10};
  Bench bench(c.op, c.settings, DetectArch(), 1);
  Bytes bytes = PlanBytes(c.op);
  std::memset(bytes.data() + bytes.size() - 4 - 5 * sizeof(float), 0, 5 * sizeof(float));
  Seal(&bytes);
  CHECK_OK(Plan::Parse(bytes.data(), bytes.size(), "plan", &bench.plan));
  std::vector<float> out(10 * 32);
  CHECK_REFUSED(bench.Run(RandomText(c, generator), 0, 10, out.data()), "mode npu_full needs static ranges");
}

}  // namespace

int main() {
  std::mt19937 generator(Seed());
  TestEveryShape(&generator);
  TestAgainstDense(&generator);
  TestBlockSparseCounts(&generator);
  TestMemory(&generator);
  TestNoRanges(&generator);
  return Finish();
}
