// shadow_append and shadow_attend: any division into head groups gives the bits of all heads at once, the grid's
// integers are those of a plain loop, and what does not fit is refused.
#include "stages.h"

#include <cmath>
#include <cstring>

#include "estimate_inputs.h"
#include "tests/check.h"
#include "tests/format_bytes.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

constexpr int kHeads = 6, kKvHeads = 2, kDim = 20, kTime = 7, kSeqLen = 200;
constexpr float kScale = 0.02f, kMultiplier = 1.0f / 256;
const PackedGrid kGrid{{0.01f, 0.02f, 0.04f}, {0.015f, 0.03f}, {0.05f, 0.1f, 0.1f, 0.2f, 0.2f, 0.4f}};

Bytes Options() {
  OpOptions op;
  op.form = kFormLayerInput;
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
    WriteBytes(path, PackPlan({1, kHeads, kKvHeads, kDim}, 0.1f, kScale, kMultiplier, grid));
    DelegateOptions wanted;
    wanted.plan = path;
    wanted.num_threads = 2;
    wanted.arch = DetectArch();
    CHECK_OK(Engine::Create(wanted, &engine));
    CHECK_OK(engine->caches().Create(settings.c_str(), &cache));
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

// A level of the scores is worth more in one bucket than in another, and the mass of what is chosen with it.
void TestBucketMatters() {
  const Fixture f("mode=shadow;keep_ratio=0.3;min_k=20");
  CHECK(InGroups(f, {6}, 1) != InGroups(f, {6}, 6));
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
  f.inputs.scales = 0;
  f.inputs.seq_len = Fixture::kLength - 1;
  CHECK_REFUSED(f.Rewrite(0), "does not fit bucket 149");
  f.chunk.n_valid = kTime + 1;
  CHECK_REFUSED(RunAppend(&f.chunk, &f.inputs, f.engine.get()), "n_valid must be in 1..7, got 8");
  f.chunk.n_valid = 1;
  CHECK_REFUSED(f.Attend(0, 6, scores.data(), 0, &out), "");  // not what the cache ends with
  f.chunk.q = nullptr;
  CHECK_REFUSED(RunAppend(&f.chunk, &f.inputs, f.engine.get()), "q must not be null");

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
  for (Scales scales : {Scales::kNearest, Scales::kNearestLog, Scales::kMiddle}) TestGrid(scales);
  TestOutsideIsCounted();
  TestRefusals();
  return Finish();
}
