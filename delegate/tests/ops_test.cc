// The ops through a runtime's eyes: chunking and rewinds bit for bit, padding, failed chunks, split against fused,
// several nodes in one delegate kernel, benchmark_rows.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <thread>

#include "tests/graphs.h"
#include "tests/oracle.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
const Shape kShape{2, 6, 2, 8};

// A text for every layer.
std::vector<Text> RandomTexts(const Shape& shape, int64_t length) {
  std::mt19937 generator(Seed());
  std::vector<Text> texts;
  for (int layer = 0; layer < shape.num_layers; ++layer) {
    const size_t kv = size_t(length) * shape.num_kv_heads * shape.head_dim;
    texts.push_back({length, RandomFloats(size_t(length) * shape.num_heads * shape.head_dim, &generator),
                     RandomFloats(kv, &generator), RandomFloats(kv, &generator)});
  }
  return texts;
}

// rows of `source` (width floats each) from `position` into a padded tensor; NaN behind them.
void Fill(float* tensor, const std::vector<float>& source, int64_t width, int64_t position, int64_t rows,
          int64_t time) {
  std::fill(tensor, tensor + time * width, kNan);
  std::copy_n(source.begin() + position * width, rows * width, tensor);
}

void FillChunk(FusedGraph* graph, const Shape& shape, const std::vector<Text>& texts, int64_t position, int64_t rows) {
  for (int layer = 0; layer < shape.num_layers; ++layer) {
    const int64_t kv_width = int64_t{shape.num_kv_heads} * shape.head_dim;
    const int64_t q_width = int64_t{shape.num_heads} * shape.head_dim;
    Fill(graph->runtime.data<float>(graph->q[layer]), texts[layer].q, q_width, position, rows, graph->time());
    Fill(graph->runtime.data<float>(graph->k[layer]), texts[layer].k, kv_width, position, rows, graph->time());
    Fill(graph->runtime.data<float>(graph->v[layer]), texts[layer].v, kv_width, position, rows, graph->time());
  }
}

// Runs rows [begin, end) in chunks and puts the outputs of all layers into out [layer][row][H*d].
void RunRows(TestDelegate* delegate, int time, const std::vector<Text>& texts, int64_t begin, int64_t end,
             std::vector<std::vector<float>>* out) {
  FusedGraph graph(kShape, time);
  CHECK(graph.runtime.Apply(delegate->base()));
  const int64_t width = int64_t{kShape.num_heads} * kShape.head_dim;
  for (int64_t position = begin; position < end; position += time) {
    const int64_t rows = std::min<int64_t>(time, end - position);
    FillChunk(&graph, kShape, texts, position, rows);
    CHECK(graph.Run(int32_t(position), int32_t(rows)));
    if (!graph.runtime.error().empty()) std::printf("%s\n", graph.runtime.error().c_str());
    for (int layer = 0; layer < kShape.num_layers; ++layer) {
      const float* o = graph.runtime.data<float>(graph.o[layer]);
      CHECK(std::all_of(o + rows * width, o + time * width, [](float x) { return x == 0.0f; }));
      std::copy(o, o + rows * width, (*out)[layer].begin() + position * width);
    }
  }
}

std::vector<std::vector<float>> Outputs(int64_t length) {
  return std::vector<std::vector<float>>(kShape.num_layers,
                                         std::vector<float>(size_t(length) * kShape.num_heads * kShape.head_dim));
}

void TestAnyChunkingAndRewinds(const char* settings) {
  constexpr int64_t kLength = 200;
  const std::vector<Text> texts = RandomTexts(kShape, kLength);
  auto expected = Outputs(kLength);
  TestDelegate one_shot(kShape, settings);
  RunRows(&one_shot, kLength, texts, 0, kLength, &expected);
  for (int time : {1, 7, 64, 65}) {
    TestDelegate delegate(kShape, settings);
    auto out = Outputs(kLength);
    const std::vector<Text> other = RandomTexts(kShape, kLength);
    RunRows(&delegate, 50, other, 0, 150, &out);  // something to rewind from
    RunRows(&delegate, time, texts, 0, 130, &out);
    RunRows(&delegate, time, texts, 64, kLength, &out);
    RunRows(&delegate, time + 3, texts, 199, kLength, &out);
    RunRows(&delegate, time, texts, 63, kLength, &out);
    CHECK(out == expected);
    CHECK(delegate.length() == kLength);
  }
}

// What an estimate graph would give, near enough for the bits: any function of (head, query row, position) that does
// not depend on the chunk.
int8_t SomeScore(int head, int64_t row, int64_t position) {
  const auto x = uint32_t(head * 7919 + row * 104729 + position * 1299709) * 2654435761u;
  return int8_t(int(x >> 25) - 64);
}

// As RunRows, through the split ops.
void RunSplitRows(TestDelegate* delegate, int time, const std::vector<Text>& texts, int64_t begin, int64_t end,
                  std::vector<std::vector<float>>* out) {
  constexpr int kBucket = 256;
  const int64_t q_width = int64_t{kShape.num_heads} * kShape.head_dim;
  const int64_t kv_width = int64_t{kShape.num_kv_heads} * kShape.head_dim;
  AppendGraph append(kShape, time, kBucket);
  AttendGraph attend(kShape, time, kBucket);
  CHECK(append.runtime.Apply(delegate->base()) && attend.runtime.Apply(delegate->base()));
  for (int64_t position = begin; position < end; position += time) {
    const int64_t rows = std::min<int64_t>(time, end - position);
    for (int layer = 0; layer < kShape.num_layers; ++layer) {
      Fill(append.runtime.data<float>(append.q), texts[layer].q, q_width, position, rows, time);
      Fill(append.runtime.data<float>(append.k), texts[layer].k, kv_width, position, rows, time);
      Fill(append.runtime.data<float>(append.v), texts[layer].v, kv_width, position, rows, time);
      Fill(attend.runtime.data<float>(attend.q), texts[layer].q, q_width, position, rows, time);
      int8_t* scores = attend.runtime.data<int8_t>(attend.scores);
      for (int64_t i = 0; i < kShape.num_heads * time * kBucket; ++i) {
        scores[i] = SomeScore(int(i / kBucket / time), position + i / kBucket % time, i % kBucket);
      }
      CHECK(append.Run(int32_t(position), int32_t(rows), 0, layer));
      CHECK(attend.Run(int32_t(position), int32_t(rows), 0, layer, int32_t(position + rows)));
      const float* o = attend.runtime.data<float>(attend.o);
      std::copy(o, o + rows * q_width, (*out)[layer].begin() + position * q_width);
    }
  }
}

void TestSplitAnyChunkingAndRewinds(const char* settings) {
  constexpr int64_t kLength = 200;
  const std::vector<Text> texts = RandomTexts(kShape, kLength);
  auto expected = Outputs(kLength);
  TestDelegate one_shot(kShape, settings);
  RunSplitRows(&one_shot, kLength, texts, 0, kLength, &expected);
  for (int time : {1, 65}) {
    TestDelegate delegate(kShape, settings);
    auto out = Outputs(kLength);
    RunSplitRows(&delegate, 50, texts, 0, 150, &out);
    RunSplitRows(&delegate, time, texts, 100, kLength, &out);
    RunSplitRows(&delegate, time, texts, 63, kLength, &out);
    CHECK(out == expected);
  }
}

void TestFailedChunkLeavesNoTrace() {
  const std::vector<Text> texts = RandomTexts(kShape, 90);
  TestDelegate delegate(kShape, "min_k=4");
  auto expected = Outputs(90);
  RunRows(&delegate, 30, texts, 0, 90, &expected);
  TestDelegate again(kShape, "min_k=4");
  auto out = Outputs(90);
  RunRows(&again, 30, texts, 0, 60, &out);
  FusedGraph graph(kShape, 30);
  CHECK(graph.runtime.Apply(again.base()));
  for (const char* tensor : {"q", "k", "v"}) {
    for (int layer : {0, 1}) {
      FillChunk(&graph, kShape, texts, 60, 30);
      auto& list = tensor[0] == 'q' ? graph.q : tensor[0] == 'k' ? graph.k : graph.v;
      graph.runtime.data<float>(list[layer])[3] = layer == 0 ? kNan : -INFINITY;
      CHECK(!graph.Run(60, 30));
      const std::string where = std::string(tensor) + " of layer " + std::to_string(layer) + " at position 60";
      CHECK(Contains(graph.runtime.error(), where));
      CHECK(again.length() == 60);
    }
  }
  RunRows(&again, 30, texts, 60, 90, &out);
  CHECK(out == expected);
}

void TestFloat16Range() {
  const Shape shape{1, 2, 1, 4};
  TestDelegate delegate(shape, "mode=dense;cache_type=f16", false);
  FusedGraph graph(shape, 1);
  CHECK(graph.runtime.Apply(delegate.base()));
  graph.runtime.data<float>(graph.v[0])[1] = 65504.0f;
  CHECK(graph.Run(0, 1));
  graph.runtime.data<float>(graph.v[0])[1] = -65520.0f;
  CHECK(!graph.Run(0, 1) && Contains(graph.runtime.error(), "cache_type=f32"));
}

// The split ops at keep_ratio 1.0 give the fused op's bits; below it, they follow the scores they are given. With all
// scores zero a threshold of more than 1 / n keeps the latest alone, and by rank the own position is the best.
void TestSplit() {
  const int64_t length = 70;
  const std::vector<Text> texts = RandomTexts(kShape, length);
  TestDelegate fused(kShape, "mode=dense");
  auto expected = Outputs(length);
  RunRows(&fused, 35, texts, 0, length, &expected);
  for (const char* settings : {"mode=dense", "keep_ratio=1", "threshold=0.99;min_k=2;sinks=0;latest=1;compensate=off",
                               "mode=shadow_paper;keep_ratio=0.000001;min_k=1"}) {
    TestDelegate delegate(kShape, settings);
    AppendGraph append(kShape, 35, 128);
    AttendGraph attend(kShape, 35, 128);
    CHECK(append.runtime.Apply(delegate.base()));
    CHECK(attend.runtime.Apply(delegate.base()));
    CHECK(append.runtime.dims(append.q_i8) == (std::vector<int>{2, 105, 8}));
    CHECK(append.runtime.dims(append.k_i8) == (std::vector<int>{2, 128, 8}));
    const bool own_position_only = Contains(settings, "min_k");
    for (int chunk = 0; chunk < 2; ++chunk) {
      for (int layer = 0; layer < 2; ++layer) {
        Fill(append.runtime.data<float>(append.q), texts[layer].q, 48, chunk * 35, 35, 35);
        Fill(append.runtime.data<float>(append.k), texts[layer].k, 16, chunk * 35, 35, 35);
        Fill(append.runtime.data<float>(append.v), texts[layer].v, 16, chunk * 35, 35, 35);
        Fill(attend.runtime.data<float>(attend.q), texts[layer].q, 48, chunk * 35, 35, 35);
        CHECK(append.Run(chunk * 35, 35, 0, layer));
        const int32_t kv_len = *append.runtime.data<int32_t>(append.kv_len);
        CHECK(kv_len == chunk * 35 + 35);
        CHECK(attend.Run(chunk * 35, 35, 0, layer, kv_len));
        const float* o = attend.runtime.data<float>(attend.o);
        if (!own_position_only) CHECK(std::equal(o, o + 35 * 48, expected[layer].begin() + chunk * 35 * 48));
        const int first = Contains(settings, "min_k=2") && chunk == 0 ? 2 * 48 : 0;
        for (int i = first; own_position_only && i < 35 * 48; ++i) {  // one position kept: o is its v
          const float v = texts[layer].v[(chunk * 35 + i / 48) * 16 + i % 48 / 24 * 8 + i % 8];
          CHECK(std::fabs(o[i] - v) <= std::fabs(v) * 0.001f + 1e-6f);
        }
      }
    }
    CHECK(delegate.length() == 70);
  }
}

// k_i8 and q_i8 against the formulas; rows behind the length and padding rows are zero.
void TestAppendOutputs() {
  TestDelegate delegate(kShape, "cache_type=f32");
  const std::vector<Text> texts = RandomTexts(kShape, 80);
  AppendGraph append(kShape, 80, 100);
  CHECK(append.runtime.Apply(delegate.base()));
  const int rows = 77;
  Fill(append.runtime.data<float>(append.q), texts[0].q, 48, 0, rows, 80);
  Fill(append.runtime.data<float>(append.k), texts[0].k, 16, 0, rows, 80);
  Fill(append.runtime.data<float>(append.v), texts[0].v, 16, 0, rows, 80);
  std::memset(append.runtime.data<char>(append.k_i8), 99, 2 * 100 * 8);
  std::memset(append.runtime.data<char>(append.q_i8), 99, 2 * 240 * 8);
  CHECK(append.Run(0, rows, 0, 0));
  const int8_t* k_i8 = append.runtime.data<int8_t>(append.k_i8);
  for (int i = 0; i < 2 * 100 * 8; ++i) {
    const int head = i / 800, position = i % 800 / 8;
    const float centred = position < rows ? texts[0].k[position * 16 + head * 8 + i % 8] - kShape.centre : 0.0f;
    CHECK(k_i8[i] == std::clamp(std::nearbyint(centred * (1.0f / kShape.scale)), -127.0f, 127.0f));
  }
  const int8_t* q_i8 = append.runtime.data<int8_t>(append.q_i8);
  for (int row = 0; row < 480; ++row) {
    const int head = row / 80, t = row % 80;
    std::vector<int8_t> wanted(8, 0);
    const std::vector<float> variance(8, 1000.0f);
    if (t < rows) QuantizeQueryCoarse(&texts[0].q[t * 48 + head * 8], variance.data(), 1.0f / 256, 8, wanted.data());
    CHECK(std::equal(wanted.begin(), wanted.end(), q_i8 + row * 8));
  }
}

// Append and attend as neighbours: one delegate kernel, and kv_len is a tensor without memory.
void TestTwoNodesInOneKernel() {
  const Shape shape{1, 2, 1, 4};
  TestDelegate delegate(shape, "mode=dense;cache_type=f32");
  FakeRuntime r;
  const int q = r.AddTensor(tflite::kFloat32, {1, 3, 2, 4});
  const int k = r.AddTensor(tflite::kFloat32, {1, 3, 1, 4});
  const int v = r.AddTensor(tflite::kFloat32, {1, 3, 1, 4});
  const int position = r.AddTensor(tflite::kInt32, {1});
  const int n_valid = r.AddTensor(tflite::kInt32, {1});
  const int zero = r.AddTensor(tflite::kInt32, {1});
  const int kv_len = r.AddTensor(tflite::kInt32, {1});
  const int q_i8 = r.AddTensor(tflite::kInt8, {1, 6, 4});
  const int k_i8 = r.AddTensor(tflite::kInt8, {1, 16, 4});
  const int scores = r.AddTensor(tflite::kInt8, {1, 6, 16});
  const int o = r.AddTensor(tflite::kFloat32, {1, 3, 8});
  r.AddNode(kKvAppendName, PackOpOptions(shape.op(kFormLayerInput, -1, 16)), {q, k, v, position, n_valid, zero, zero},
            {kv_len, q_i8, k_i8});
  r.AddNode(kSparseAttentionName, PackOpOptions(shape.op(kFormScores | kFormLayerInput, -1)),
            {q, scores, position, n_valid, zero, zero, kv_len}, {o});
  r.SetGraphOutputs({o});
  CHECK(r.Apply(delegate.base()));
  CHECK(r.partitions() == 1 && r.resizes() == 0 && r.tensor(kv_len).data == nullptr);
  *r.data<int32_t>(n_valid) = 2;
  r.data<float>(v)[0] = 5;
  CHECK(r.Invoke());
  CHECK(r.data<float>(o)[0] == 5 && r.data<float>(o)[8] == 2.5 && r.data<float>(o)[16] == 0);
}

void TestPrepareAgainAfterResize() {
  TestDelegate delegate(kShape, "mode=dense");
  FusedGraph graph(kShape, 4);
  CHECK(graph.runtime.Apply(delegate.base()));
  CHECK(graph.runtime.dims(graph.o[1]) == (std::vector<int>{1, 4, 48}));
  const int resizes = graph.runtime.resizes();
  CHECK(graph.runtime.Prepare() && graph.runtime.resizes() == resizes);  // nothing to do twice
  for (int layer : {0, 1}) {
    graph.runtime.SetDims(graph.q[layer], {1, 9, 6, 8});
    graph.runtime.SetDims(graph.k[layer], {1, 9, 2, 8});
    graph.runtime.SetDims(graph.v[layer], {1, 9, 2, 8});
  }
  CHECK(graph.runtime.Prepare());
  CHECK(graph.runtime.dims(graph.o[0]) == (std::vector<int>{1, 9, 48}));
  CHECK(graph.Run(0, 9) && delegate.length() == 9);
}

// Two interpreters of one delegate on two threads, each with its own cache.
void TestTwoThreadsTwoCaches() {
  const std::vector<Text> texts = RandomTexts(kShape, 128);
  TestDelegate delegate(kShape, "min_k=2");
  auto expected = Outputs(128);
  RunRows(&delegate, 16, texts, 0, 128, &expected);
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      int32_t handle = -1;
      if (!delegate.engine().caches().Create("", &handle).ok()) return;
      FusedGraph graph(kShape, 16);
      if (!graph.runtime.Apply(delegate.base())) return;
      for (int repeat = 0; repeat < 5; ++repeat) {
        for (int position = 0; position < 128; position += 16) {
          FillChunk(&graph, kShape, texts, position, 16);
          if (!graph.Run(position, 16, handle)) return;
          const float* o = graph.runtime.data<float>(graph.o[1]);
          if (!std::equal(o, o + 16 * 48, expected[1].begin() + position * 48)) return;
        }
      }
      ++good;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(good == 2);
}

void TestCacheInUse() {
  TestDelegate delegate(kShape, "mode=dense");
  FusedGraph graph(kShape, 1);
  CHECK(graph.runtime.Apply(delegate.base()));
  CacheLease lease;
  CHECK_OK(delegate.engine().caches().Lease(0, &lease));
  CHECK(!graph.Run(0, 1) && Contains(graph.runtime.error(), "in use by another thread"));
}

void TestBenchmarkRows() {
  std::mt19937 generator(Seed());
  for (const char* settings : {"mode=dense", "", "mode=shadow_paper", "mode=float_estimate"}) {
    TestDelegate delegate(kShape, settings, true, 300);
    FusedGraph fused(kShape, 5);
    AppendGraph append(kShape, 5, 512);
    AttendGraph attend(kShape, 5, 512);
    CHECK(fused.runtime.Apply(delegate.base()));
    CHECK(append.runtime.Apply(delegate.base()));
    CHECK(attend.runtime.Apply(delegate.base()));
    for (int run = 0; run < 20; ++run) {
      const auto any = [&] { return static_cast<int32_t>(generator()); };
      CHECK(fused.Run(any(), any(), any()));
      CHECK(append.Run(any(), any(), any(), any()));
      CHECK(attend.Run(any(), any(), any(), any(), any()));
      const float* o = attend.runtime.data<float>(attend.o);
      CHECK(std::all_of(o, o + 5 * 48, [](float x) { return std::isfinite(x); }));
    }
  }
}

}  // namespace

int main() {
  for (const char* settings : {"", "min_k=4;keep_ratio=0.05;cache_type=f32", "min_k=1;threshold=0.2",
                               "min_k=1;compensate=off", "keep_ratio=0.2;sinks=0", "mode=shadow_paper;min_k=4",
                               "mode=float_estimate;min_k=4", "mode=dense", "keep_ratio=1.0"}) {
    TestAnyChunkingAndRewinds(settings);
    TestSplitAnyChunkingAndRewinds(settings);
  }
  TestFailedChunkLeavesNoTrace();
  TestFloat16Range();
  TestSplit();
  TestAppendOutputs();
  TestTwoNodesInOneKernel();
  TestPrepareAgainAfterResize();
  TestTwoThreadsTwoCaches();
  TestCacheInUse();
  TestBenchmarkRows();
  return Finish();
}
