// shadow_append and shadow_attend: any division into head groups, and any chunking, gives the same bits; without scores
// they give the bits of the op; the integers for estimate graphs are those of a plain loop; what does not fit is
// refused.
#include "abi/stages.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "estimate/estimate_inputs.h"
#include "kernels/quantize/quantize.h"
#include "tests/check.h"
#include "tests/graphs.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

constexpr int kHeads = 6, kKvHeads = 2, kDim = 20, kTime = 7, kSeqLen = 200;
constexpr float kCentre = 0.1f, kScale = 0.02f, kMultiplier = 1.0f / 256;
const PackedGrid kGrid{{0.01f, 0.02f, 0.04f}, {0.015f, 0.03f}, {0.05f, 0.1f, 0.1f, 0.2f, 0.2f, 0.4f}};

Bytes Options() {
  OpOptions op;
  op.num_layers = 1;
  op.num_heads = kHeads;
  op.num_kv_heads = kKvHeads;
  op.head_dim = kDim;
  op.softmax_scale = 0.25f;
  return PackOpOptions(op);
}

// An engine with one cache, filled to kLength rows.
struct Fixture {
  static constexpr int kLength = 150;

  explicit Fixture(const std::string& settings, const PackedGrid& grid = kGrid) : options(Options()) {
    const std::string path = std::string(SHADOW_TEST_DIR) + "/stages_plan.bin";
    WriteBytes(path, PackPlan({1, kHeads, kKvHeads, kDim}, kCentre, kScale, kMultiplier, grid));
    DelegateOptions wanted;
    wanted.plan = path;
    wanted.num_threads = 2;
    wanted.arch = DetectArch();
    CHECK_OK(Engine::Create(wanted, &engine));
    CacheSettings parsed = engine->options().cache;
    CHECK_OK(ParseCacheSettings(settings.c_str(), CacheStage::kCreation, &parsed));
    CHECK_OK(engine->caches().Create(parsed, &cache));
    std::mt19937 generator(Seed());
    q = RandomFloats(size_t{kTime} * kHeads * kDim, &generator);
    k = RandomFloats(size_t{kLength} * kKvHeads * kDim, &generator);
    v = RandomFloats(k.size(), &generator);
    for (int64_t position = 0; position < kLength; position += kTime) {
      chunk = Chunk(position, std::min<int64_t>(kTime, kLength - position));
      CHECK_OK(RunAppend(&chunk, &inputs, engine.get()));
    }
  }

  ShadowChunk Chunk(int64_t position, int64_t n_valid) const {
    const size_t at = size_t(position) * kKvHeads * kDim;
    return {sizeof(ShadowChunk), cache,        0, kTime, position, n_valid, options.data(), q.data(),
            k.data() + at,       v.data() + at};
  }

  Status Rewrite(int32_t scales) {  // the last chunk again
    inputs.scales = scales;
    chunk = Chunk(chunk.position, chunk.n_valid);
    return RunAppend(&chunk, &inputs, engine.get());
  }

  Status Attend(int first, int count, const int8_t* scores, int bucket, std::vector<float>* out) const {
    const ShadowHeads heads{sizeof(ShadowHeads), first, count, bucket, 1, 0, kSeqLen, scores, out->data()};
    return RunAttend(&chunk, &heads, engine.get());
  }

  const Bytes options;
  std::unique_ptr<Engine> engine;
  int32_t cache = 0;
  std::vector<float> q, k, v;
  std::vector<int8_t> q_i8 = std::vector<int8_t>(size_t{kHeads} * kTime * kDim);
  std::vector<int8_t> k_i8 = std::vector<int8_t>(size_t{kKvHeads} * kSeqLen * kDim);
  std::vector<int32_t> buckets = std::vector<int32_t>(kHeads, -1);
  ShadowEstimateInputs inputs{sizeof(ShadowEstimateInputs), 0, kSeqLen, q_i8.data(), k_i8.data(), buckets.data(), 0, 0};
  ShadowChunk chunk{};
};

std::vector<int8_t> RandomScores() {
  std::mt19937 generator(Seed() + 1);
  std::uniform_int_distribution<int> any(-128, 127);
  std::vector<int8_t> scores(size_t{kHeads} * kTime * kSeqLen);
  for (int8_t& score : scores) score = int8_t(any(generator));
  return scores;
}

// Heads from 0 on, in groups of these sizes; their scores begin where those of all heads would.
std::vector<float> InGroups(const Fixture& f, const std::vector<int>& sizes, int bucket) {
  const std::vector<int8_t> scores = RandomScores();
  std::vector<float> out(size_t{kTime} * kHeads * kDim, NAN);
  int first = 0;
  for (int size : sizes) {
    CHECK_OK(f.Attend(first, size, scores.data() + size_t(first) * kTime * kSeqLen, bucket, &out));
    first += size;
  }
  return out;
}

void TestGroupsAgree(const char* settings, int bucket) {
  const Fixture f(settings);
  const std::vector<float> whole = InGroups(f, {6}, bucket);
  for (float value : whole) CHECK(std::isfinite(value));  // padding rows too
  for (const std::vector<int>& sizes : {std::vector<int>{3, 3}, {1, 1, 1, 1, 1, 1}, {2, 1, 3}, {1, 2, 2, 1}}) {
    const std::vector<float> parts = InGroups(f, sizes, bucket);
    CHECK(std::memcmp(parts.data(), whole.data(), whole.size() * sizeof(float)) == 0);
  }
}

// A level of the scores is worth more in one bucket than in another, and so is the mass of what is selected.
void TestBucketMatters() {
  const Fixture f("mode=shadow;keep_ratio=0.3;min_k=20");
  CHECK(InGroups(f, {6}, 1) != InGroups(f, {6}, 6));
}

// What an estimate graph would give, near enough for the bits: a function of (head, row, position) that does not depend
// on the chunk.
int8_t SomeScore(int head, int64_t row, int64_t position) {
  const auto x = uint32_t(head * 7919 + row * 104729 + position * 1299709) * 2654435761u;
  return int8_t(int(x >> 25) - 64);
}

// Rows [begin, end) of a random text of kSeqLen rows in chunks of `time`, into out [kSeqLen][H*d].
void RunRows(Engine* engine, int time, int64_t begin, int64_t end, std::vector<float>* out) {
  std::mt19937 generator(Seed());
  const std::vector<float> q = RandomFloats(size_t{kSeqLen} * kHeads * kDim, &generator);
  const std::vector<float> k = RandomFloats(size_t{kSeqLen} * kKvHeads * kDim, &generator);
  const std::vector<float> v = RandomFloats(k.size(), &generator);
  std::vector<int8_t> q_i8(size_t(time) * kHeads * kDim), k_i8(size_t{kSeqLen} * kKvHeads * kDim);
  std::vector<int8_t> scores(size_t(time) * kHeads * kSeqLen);
  std::vector<int32_t> buckets(kHeads);
  std::vector<float> o(size_t(time) * kHeads * kDim);
  const Bytes options = Options();
  for (int64_t position = begin; position < end; position += time) {
    const int64_t rows = std::min<int64_t>(time, end - position);
    const size_t kv = size_t(position) * kKvHeads * kDim;
    const ShadowChunk chunk{sizeof(ShadowChunk),
                            0,
                            0,
                            time,
                            position,
                            rows,
                            options.data(),
                            q.data() + position * kHeads * kDim,
                            k.data() + kv,
                            v.data() + kv};
    ShadowEstimateInputs inputs{sizeof(inputs), 0, kSeqLen, q_i8.data(), k_i8.data(), buckets.data(), 0, 0};
    CHECK_OK(RunAppend(&chunk, &inputs, engine));
    for (size_t i = 0; i < scores.size(); ++i) {
      const int64_t head = int64_t(i) / kSeqLen / time, row = position + int64_t(i) / kSeqLen % time;
      scores[i] = SomeScore(int(head), row, int64_t(i) % kSeqLen);
    }
    const ShadowHeads heads{sizeof(heads), 0, kHeads, 0, 1, 0, kSeqLen, scores.data(), o.data()};
    CHECK_OK(RunAttend(&chunk, &heads, engine));
    std::copy_n(o.begin(), rows * kHeads * kDim, out->begin() + position * kHeads * kDim);
  }
}

void TestAnyChunkingAndRewinds(const char* settings) {
  const Shape shape{1, kHeads, kKvHeads, kDim};
  std::vector<float> expected(size_t{kSeqLen} * kHeads * kDim), out(expected.size());
  TestDelegate one_shot(shape, settings);
  RunRows(&one_shot.engine(), kSeqLen, 0, kSeqLen, &expected);
  for (int time : {1, 65}) {
    TestDelegate delegate(shape, settings);
    RunRows(&delegate.engine(), 50, 0, 150, &out);
    RunRows(&delegate.engine(), time, 100, kSeqLen, &out);
    RunRows(&delegate.engine(), time, 63, kSeqLen, &out);
    CHECK(out == expected);
  }
}

// Scores decide: with all of them equal a threshold above 1 / n selects the latest position alone, and by rank a row's
// own position is the best.
void TestOwnPositionOnly(const char* settings) {
  const Fixture f(settings);
  std::vector<float> out(size_t{kTime} * kHeads * kDim);
  const std::vector<int8_t> scores(size_t{kHeads} * kTime * kSeqLen, 0);
  CHECK_OK(f.Attend(0, kHeads, scores.data(), 0, &out));
  for (int64_t t = 0; t < f.chunk.n_valid; ++t) {
    for (int head = 0; head < kHeads; ++head) {
      for (int c = 0; c < kDim; ++c) {
        const float v = f.v[size_t((f.chunk.position + t) * kKvHeads + head / 3) * kDim + c];
        CHECK(std::fabs(out[(t * kHeads + head) * kDim + c] - v) <= std::fabs(v) * 0.001f + 1e-6f);
      }
    }
  }
}

// Without scores the steps are the op.
void TestWithoutScores(const char* settings) {
  const Shape shape{1, kHeads, kKvHeads, kDim};
  TestDelegate delegate(shape, settings);
  OpGraph graph(shape, kTime);
  CHECK(graph.runtime.Apply(delegate.base()));
  int32_t other = 0;
  CHECK_OK(delegate.engine().caches().Create(delegate.engine().options().cache, &other));
  std::mt19937 generator(Seed());
  const Bytes options = PackOpOptions(shape.op(0));
  for (int64_t position = 0; position < 300; position += kTime) {
    const std::vector<float> q = RandomFloats(kTime * kHeads * kDim, &generator);
    const std::vector<float> k = RandomFloats(kTime * kKvHeads * kDim, &generator);
    const std::vector<float> v = RandomFloats(k.size(), &generator);
    std::copy(q.begin(), q.end(), graph.runtime.data<float>(graph.q[0]));
    std::copy(k.begin(), k.end(), graph.runtime.data<float>(graph.k[0]));
    std::copy(v.begin(), v.end(), graph.runtime.data<float>(graph.v[0]));
    CHECK(graph.Run(int32_t(position), kTime));
    const ShadowChunk chunk{sizeof(ShadowChunk), other,    0,        kTime,   position, kTime,
                            options.data(),      q.data(), k.data(), v.data()};
    CHECK_OK(RunAppend(&chunk, nullptr, &delegate.engine()));
    std::vector<float> out(q.size());
    const ShadowHeads heads{sizeof(heads), 0, kHeads, 0, 1, 0, 0, nullptr, out.data()};
    CHECK_OK(RunAttend(&chunk, &heads, &delegate.engine()));
    CHECK(std::equal(out.begin(), out.end(), graph.runtime.data<float>(graph.o[0])));
  }
}

// The plan gives the keys a variance of 1000. A step of the coarse scores is worth too many logits for compensation
// where the queries are large, and a clipped best score says too little of the others.
void TestRowsNotCompensated() {
  const int64_t rows = kHeads * 3;  // of the last chunk, which is longer than min_k
  for (float size : {0.001f, 100.0f}) {
    for (int8_t score : {int8_t{0}, int8_t{127}}) {
      Fixture f("threshold=0.1;min_k=1");
      std::fill(f.q.begin(), f.q.end(), size);
      const std::vector<int8_t> scores(size_t{kHeads} * kTime * kSeqLen, score);
      std::vector<float> out(size_t{kTime} * kHeads * kDim);
      CHECK_OK(f.Attend(0, kHeads, scores.data(), 0, &out));
      std::shared_ptr<KvCache> cache;
      CHECK_OK(f.engine->caches().Find(f.cache, &cache));
      CHECK(cache->statistics().rows_not_compensated == (size > 1 || score == 127 ? rows : 0));
    }
  }
}

// Rank-invariant integers by the formulas of docs/op_spec.md; rows after the length and padding rows are zero.
void TestRankInvariant() {
  const Fixture f("cache_type=f32");
  for (int i = 0; i < kKvHeads * kSeqLen * kDim; ++i) {
    const int head = i / (kSeqLen * kDim), position = i / kDim % kSeqLen;
    const bool present = position < Fixture::kLength;
    const float centred = present ? f.k[size_t(position * kKvHeads + head) * kDim + i % kDim] - kCentre : 0.0f;
    CHECK(f.k_i8[i] == std::clamp(std::nearbyint(centred * (1.0f / kScale)), -127.0f, 127.0f));
  }
  const std::vector<float> variance(kDim, 1000.0f);
  for (int row = 0; row < kHeads * kTime; ++row) {
    const int head = row / kTime, t = row % kTime;
    std::vector<int8_t> wanted(kDim, 0);
    if (t < f.chunk.n_valid) {
      QuantizeQueryCoarse(&f.q[size_t(t * kHeads + head) * kDim], variance.data(), kMultiplier, kDim, wanted.data());
    }
    CHECK(std::equal(wanted.begin(), wanted.end(), f.q_i8.begin() + row * kDim));
  }
  CHECK(f.buckets == std::vector<int32_t>(kHeads, 0) && f.inputs.clamped == 0 && f.inputs.outside == 0);
}

float Largest(const float* values, int count) {
  float largest = 0;
  for (int i = 0; i < count; ++i) largest = std::max(largest, std::fabs(values[i]));
  return largest;
}

int Nearest(float measured, const std::vector<float>& scales, bool log) {
  int best = 0;
  const auto distance = [&](float s) {
    return log ? std::fabs(std::log(double(measured) / double(s))) : std::fabs(double(measured) - double(s));
  };
  for (size_t i = 1; i < scales.size(); ++i)
    if (distance(scales[i]) < distance(scales[best])) best = int(i);
  return best;
}

int8_t Int8(float x, float scale, int64_t* clamped) {
  const float rounded = std::nearbyint(x * (1.0f / scale));
  *clamped += std::fabs(rounded) > 127.0f;
  return int8_t(std::fmin(std::fmax(rounded, -127.0f), 127.0f));
}

// As the cache holds it: binary16 would need a conversion here, so these caches are float32.
void TestGrid(Scales scales) {
  Fixture f("cache_type=f32");
  CHECK_OK(f.Rewrite(int32_t(scales)));
  int64_t clamped = 0, outside = 0;
  for (int kv = 0; kv < kKvHeads; ++kv) {
    float largest = 0;
    for (int j = 0; j < Fixture::kLength; ++j)
      largest = std::max(largest, Largest(f.k.data() + (j * kKvHeads + kv) * kDim, kDim));
    const float k_measured = largest / 127.0f;
    const bool fixed = scales == Scales::kMiddle;
    const int kb = fixed ? 1 : Nearest(k_measured, kGrid.k_scales, scales == Scales::kNearestLog);
    outside += !fixed && (k_measured < kGrid.k_scales.front() || k_measured > kGrid.k_scales.back());
    for (int j = 0; j < kSeqLen; ++j)
      for (int c = 0; c < kDim; ++c) {
        const int8_t want = j < Fixture::kLength
                                ? Int8(f.k[size_t(j * kKvHeads + kv) * kDim + c], kGrid.k_scales[kb], &clamped)
                                : int8_t{0};
        CHECK(f.k_i8[size_t(kv * kSeqLen + j) * kDim + c] == want);
      }
    for (int head = kv * 3; head < kv * 3 + 3; ++head) {
      float q_largest = 0;
      for (int t = 0; t < f.chunk.n_valid; ++t)
        q_largest = std::max(q_largest, Largest(f.q.data() + (t * kHeads + head) * kDim, kDim));
      const float q_measured = q_largest / 127.0f;
      const int qb = fixed ? 1 : Nearest(q_measured, kGrid.q_scales, scales == Scales::kNearestLog);
      outside += !fixed && (q_measured < kGrid.q_scales.front() || q_measured > kGrid.q_scales.back());
      CHECK(f.buckets[head] == 1 + qb * 2 + kb);
      for (int t = 0; t < kTime; ++t)
        for (int c = 0; c < kDim; ++c) {
          const int8_t want = t < f.chunk.n_valid
                                  ? Int8(f.q[size_t(t * kHeads + head) * kDim + c], kGrid.q_scales[qb], &clamped)
                                  : int8_t{0};
          CHECK(f.q_i8[size_t(head * kTime + t) * kDim + c] == want);
        }
    }
  }
  CHECK(f.inputs.clamped == clamped && f.inputs.outside == outside);
}

void TestOutsideIsCounted() {
  Fixture f("cache_type=f32", {{1.0f}, {1.0f}, {1.0f}});  // all that is measured lies below
  CHECK_OK(f.Rewrite(int32_t(Scales::kNearest)));
  CHECK(f.inputs.outside == kHeads + kKvHeads && f.inputs.clamped == 0 && f.buckets[0] == 1);
  Fixture g("cache_type=f32", {{1e-3f}, {1e-3f}, {1.0f}});  // all above: clamped, within INT8
  CHECK_OK(g.Rewrite(int32_t(Scales::kNearest)));
  CHECK(g.inputs.outside == kHeads + kKvHeads && g.inputs.clamped > 0);
}

void TestRefusals() {
  Fixture f("mode=shadow");
  std::vector<float> out(size_t{kTime} * kHeads * kDim);
  const std::vector<int8_t> scores = RandomScores();
  CHECK_REFUSED(f.Attend(2, 2, scores.data(), 0, &out), "neither within one of the 2 KV heads nor all heads");
  CHECK_REFUSED(f.Attend(0, 4, scores.data(), 0, &out), "neither within");
  CHECK_REFUSED(f.Attend(-1, 1, scores.data(), 0, &out), "neither within");
  CHECK_REFUSED(f.Attend(6, 1, scores.data(), 0, &out), "neither within");
  CHECK_REFUSED(f.Attend(0, 6, scores.data(), 7, &out), "bucket must be in 0..6 (the plan's grid), got 7");
  CHECK_REFUSED(f.Rewrite(4), "scales must be 0");
  CHECK_REFUSED(RunAppend(nullptr, nullptr, f.engine.get()), "struct_size of ShadowChunk");
  f.chunk.layer = 1;
  CHECK_REFUSED(RunAppend(&f.chunk, &f.inputs, f.engine.get()), "layer must be in 0..0, got 1");
  f.chunk.layer = 0;
  f.inputs.scales = 0;
  f.inputs.seq_len = Fixture::kLength - 1;
  CHECK_REFUSED(f.Rewrite(0), "does not fit bucket 149");
  f.chunk.n_valid = kTime + 1;
  CHECK_REFUSED(RunAppend(&f.chunk, &f.inputs, f.engine.get()), "n_valid must be in 1..7, got 8");
  f.chunk.n_valid = 1;
  CHECK_REFUSED(f.Attend(0, 6, scores.data(), 0, &out), "must be the 150 rows of layer 0");
  f.chunk.q = nullptr;
  CHECK_REFUSED(RunAppend(&f.chunk, &f.inputs, f.engine.get()), "q must not be null");

  f.chunk.q = f.q.data();
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max(), kLeast = std::numeric_limits<int64_t>::min();
  f.inputs.seq_len = kSeqLen;
  for (int64_t position : {kLeast, int64_t{-1}, kMost - 1, kMost}) {
    f.chunk.position = position;
    const std::string wanted = position < 0 ? "must not be negative" : "is full";
    CHECK_REFUSED(RunAppend(&f.chunk, &f.inputs, f.engine.get()), wanted);
    CHECK_REFUSED(RunAppend(&f.chunk, nullptr, f.engine.get()), wanted);
    CHECK_REFUSED(f.Attend(0, 6, scores.data(), 0, &out), "must be the 150 rows");
  }
  f.chunk = f.Chunk(0, kTime);
  for (int64_t seq_len : {kLeast, int64_t{-1}, int64_t{0}}) {
    f.inputs.seq_len = seq_len;
    CHECK_REFUSED(RunAppend(&f.chunk, &f.inputs, f.engine.get()), "does not fit bucket");
  }
  f.chunk.n_valid = kMost;
  CHECK_REFUSED(RunAppend(&f.chunk, nullptr, f.engine.get()), "n_valid must be in 1..7");
  CHECK_REFUSED(f.Attend(std::numeric_limits<int>::max(), 6, nullptr, 0, &out), "neither within");

  Fixture small("mode=shadow");
  const ShadowHeads heads{sizeof(heads), 0, 6, 0, 1, 0, Fixture::kLength - 1, scores.data(), out.data()};
  CHECK_REFUSED(RunAttend(&small.chunk, &heads, small.engine.get()), "does not fit bucket 149");

  Fixture plain("mode=int8", {});
  CHECK_REFUSED(plain.Attend(0, 3, nullptr, 0, &out), "mode int8 attends all 6 heads at once, got 3");
  CHECK_OK(plain.Attend(0, 6, nullptr, 0, &out));
  CHECK_REFUSED(plain.Rewrite(1), "the plan has no scale grid");
}

}  // namespace

int main() {
  TestGroupsAgree("mode=shadow;keep_ratio=0.3;min_k=20", 0);
  TestGroupsAgree("mode=shadow;keep_ratio=0.3;min_k=20", 4);
  TestGroupsAgree("mode=shadow_paper;keep_ratio=0.3;min_k=20;compensate=off", 0);
  TestBucketMatters();
  for (const char* settings : {"", "min_k=4;keep_ratio=0.05;cache_type=f32", "min_k=1;threshold=0.2",
                               "min_k=1;compensate=off", "keep_ratio=0.2;sinks=0", "mode=shadow_paper;min_k=4",
                               "mode=float_estimate;min_k=4", "mode=dense", "keep_ratio=1.0"}) {
    TestAnyChunkingAndRewinds(settings);
    TestWithoutScores(settings);
  }
  TestOwnPositionOnly("threshold=0.99;min_k=2;sinks=0;latest=1;compensate=off");
  TestOwnPositionOnly("mode=shadow_paper;keep_ratio=0.000001;min_k=1;sinks=0");
  TestRowsNotCompensated();
  TestRankInvariant();
  for (Scales scales : {Scales::kNearest, Scales::kNearestLog, Scales::kMiddle}) TestGrid(scales);
  TestOutsideIsCounted();
  TestRefusals();
  return Finish();
}
