// The op through a runtime's eyes: chunking and rewinds bit for bit, padding, failed chunks, several nodes in one
// delegate kernel, benchmark_rows.
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

// rows of `source` (width floats each) from `position` into a padded tensor; NaN after them.
void Fill(float* tensor, const std::vector<float>& source, int64_t width, int64_t position, int64_t rows,
          int64_t time) {
  std::fill(tensor, tensor + time * width, kNan);
  std::copy_n(source.begin() + position * width, rows * width, tensor);
}

void FillChunk(OpGraph* graph, const Shape& shape, const std::vector<Text>& texts, int64_t position, int64_t rows) {
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
  OpGraph graph(kShape, time);
  CHECK(graph.runtime.Apply(delegate->base()) && graph.runtime.partitions() == 1);
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

void TestFailedChunkLeavesNoTrace() {
  const std::vector<Text> texts = RandomTexts(kShape, 90);
  TestDelegate delegate(kShape, "min_k=4");
  auto expected = Outputs(90);
  RunRows(&delegate, 30, texts, 0, 90, &expected);
  TestDelegate again(kShape, "min_k=4");
  auto out = Outputs(90);
  RunRows(&again, 30, texts, 0, 60, &out);
  OpGraph graph(kShape, 30);
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
  OpGraph graph(shape, 1);
  CHECK(graph.runtime.Apply(delegate.base()));
  graph.runtime.data<float>(graph.v[0])[1] = 65504.0f;
  CHECK(graph.Run(0, 1));
  graph.runtime.data<float>(graph.v[0])[1] = -65520.0f;
  CHECK(!graph.Run(0, 1) && Contains(graph.runtime.error(), "cache_type=f32"));
}

void TestPrepareAgainAfterResize() {
  TestDelegate delegate(kShape, "mode=dense");
  OpGraph graph(kShape, 4);
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
      if (!delegate.engine().caches().Create(delegate.engine().options().cache, &handle).ok()) return;
      OpGraph graph(kShape, 16);
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
  OpGraph graph(kShape, 1);
  CHECK(graph.runtime.Apply(delegate.base()));
  CacheLease lease;
  CHECK_OK(delegate.engine().caches().Lease(0, &lease));
  CHECK(!graph.Run(0, 1) && Contains(graph.runtime.error(), "in use by another thread"));
}

void TestBenchmarkRows() {
  std::mt19937 generator(Seed());
  for (const char* settings : {"mode=dense", "", "mode=shadow_paper", "mode=float_estimate"}) {
    TestDelegate delegate(kShape, settings, true, 300);
    OpGraph graph(kShape, 5);
    CHECK(graph.runtime.Apply(delegate.base()));
    for (int run = 0; run < 20; ++run) {
      const auto any = [&] { return static_cast<int32_t>(generator()); };
      CHECK(graph.Run(any(), any(), any()));
      for (int layer : {0, 1}) {
        const float* o = graph.runtime.data<float>(graph.o[layer]);
        CHECK(std::all_of(o, o + 5 * 48, [](float x) { return std::isfinite(x); }));
      }
    }
  }
}

void TestBenchmarkRowsThatDoNotFit() {
  TestDelegate delegate(kShape, "mode=dense;max_length=301", true, 300);
  OpGraph graph(kShape, 5);
  CHECK(graph.runtime.Apply(delegate.base()));
  CHECK(graph.Run(std::numeric_limits<int32_t>::max(), 1));
  CHECK(!graph.Run(0, 2) && Contains(graph.runtime.error(), "position 300 and 2 new rows exceed max_length 301"));
}

}  // namespace

int main() {
  for (const char* settings : {"", "min_k=4;keep_ratio=0.05;cache_type=f32", "min_k=1;threshold=0.2",
                               "min_k=1;compensate=off", "keep_ratio=0.2;sinks=0", "mode=shadow_paper;min_k=4",
                               "mode=float_estimate;min_k=4", "mode=dense", "keep_ratio=1.0"}) {
    TestAnyChunkingAndRewinds(settings);
  }
  TestFailedChunkLeavesNoTrace();
  TestFloat16Range();
  TestPrepareAgainAfterResize();
  TestTwoThreadsTwoCaches();
  TestCacheInUse();
  TestBenchmarkRows();
  TestBenchmarkRowsThatDoNotFit();
  return Finish();
}
