// What a broken graph or a careless caller can pass: a message that helps, never a crash. Each case names its message.
#include <functional>
#include <limits>

#include "tests/graphs.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

const Shape kShape{2, 4, 2, 8};

void CheckError(bool succeeded, const FakeRuntime& runtime, const std::string& part) {
  Check(!succeeded && Contains(runtime.error(), part), __FILE__, __LINE__,
        "wanted '" + part + "', got '" + runtime.error() + "'");
}

void TestIntegers() {
  constexpr int32_t kMin = std::numeric_limits<int32_t>::min();
  constexpr int32_t kMax = std::numeric_limits<int32_t>::max();
  TestDelegate delegate(kShape, "mode=dense;max_length=20");
  OpGraph graph(kShape, 3);
  FakeRuntime& r = graph.runtime;
  CHECK(r.Apply(delegate.base()));
  CheckError(graph.Run(0, 0), r, "ShadowSparseAttention (layer 0): n_valid must be in 1..3, got 0");
  CheckError(graph.Run(0, -1), r, "n_valid must be in 1..3");
  CheckError(graph.Run(0, 4), r, "n_valid must be in 1..3");
  CheckError(graph.Run(0, kMin), r, "n_valid must be in 1..3");
  CheckError(graph.Run(-1, 1), r, "position must not be negative");
  CheckError(graph.Run(kMin, 1), r, "position must not be negative");
  CheckError(graph.Run(1, 1), r, "leaves a gap: cache 0 holds 0 positions");
  CheckError(graph.Run(kMax, 3), r, "cache 0 is full");
  CheckError(graph.Run(0, 1, 7), r, "cache 7 does not exist");
  CheckError(graph.Run(0, 1, -1), r, "cache -1 does not exist");
  CheckError(graph.Run(0, 1, kMin), r, "does not exist");
  for (int position = 0; position < 18; position += 3) CHECK(graph.Run(position, 3));
  CheckError(graph.Run(18, 3), r, "exceed max_length 20");
  CHECK(graph.Run(18, 2));
  CHECK(delegate.length() == 20);
}

void TestRandomIntegers() {
  std::mt19937 generator(Seed());
  TestDelegate delegate(kShape, "keep_ratio=0.5;min_k=1;max_length=200");
  OpGraph graph(kShape, 3);
  CHECK(graph.runtime.Apply(delegate.base()));
  const auto any = [&]() -> int32_t {  // often near the limits, so that some calls succeed
    return generator() % 4 == 0 ? static_cast<int32_t>(generator()) : static_cast<int32_t>(generator() % 5) - 1;
  };
  int good = 0;
  for (int run = 0; run < 20000; ++run) {
    good += graph.Run(any(), any(), any());
  }
  CHECK(good > 0 && delegate.length() <= 200);
}

void TestNoPlan() {
  TestDelegate delegate(kShape, "", false);
  OpGraph graph(kShape, 3);
  CHECK(graph.runtime.Apply(delegate.base()));
  CheckError(graph.Run(0, 1), graph.runtime, "pass the delegate option plan=PATH, or use mode=dense");
}

void TestOtherModel() {
  TestDelegate delegate(kShape, "mode=dense");
  OpGraph other(Shape{3, 4, 2, 8}, 3);
  CHECK(other.runtime.Apply(delegate.base()));
  CheckError(other.Run(0, 1), other.runtime, "pass the plan of this bundle");
  TestDelegate no_plan(kShape, "mode=dense", false);
  OpGraph mine(kShape, 3);
  CHECK(mine.runtime.Apply(no_plan.base()) && mine.Run(0, 3));
  OpGraph again(Shape{3, 4, 2, 8}, 3);
  CHECK(again.runtime.Apply(no_plan.base()));
  CheckError(again.Run(3, 1), again.runtime, "create another cache");
}

// A node of a one-layer model, whose graph is damaged before Prepare.
struct Node {
  Bytes bytes = PackOpOptions(Shape{}.op(0));
  std::vector<int> q{1, 3, 4, 8}, k{1, 3, 2, 8}, v{1, 3, 2, 8}, scalar{1};
  tflite::Type q_type = tflite::kFloat32, position_type = tflite::kInt32, o_type = tflite::kFloat32;
  int drop_inputs = 0, missing_input = -1, extra_outputs = 0;
};

void CheckRefusedInPrepare(const std::string& part, const std::function<void(Node*)>& damage) {
  Node n;
  damage(&n);
  TestDelegate delegate(Shape{}, "mode=dense");
  FakeRuntime r;
  std::vector<int> inputs = {r.AddTensor(n.q_type, n.q),         r.AddTensor(tflite::kFloat32, n.k),
                             r.AddTensor(tflite::kFloat32, n.v), r.AddTensor(n.position_type, n.scalar),
                             r.AddTensor(tflite::kInt32, {1}),   r.AddTensor(tflite::kInt32, {1})};
  std::vector<int> outputs = {r.AddTensor(n.o_type, {1, 1, 1})};
  for (int i = 0; i < n.extra_outputs; ++i) outputs.push_back(r.AddTensor(tflite::kFloat32, {1}));
  inputs.resize(inputs.size() - static_cast<size_t>(n.drop_inputs));
  if (n.missing_input >= 0) inputs[static_cast<size_t>(n.missing_input)] = -1;
  r.AddNode(kSparseAttentionName, n.bytes, inputs, outputs);
  r.SetGraphOutputs(outputs);
  const bool applied = r.Apply(delegate.base());
  CheckError(applied, r, part);
}

void TestDamagedOptions() {
  CheckRefusedInPrepare("expected 40 option bytes, got 39", [](Node* n) { n->bytes.resize(39); });
  CheckRefusedInPrepare("expected 40 option bytes, got 0", [](Node* n) { n->bytes.clear(); });
  CheckRefusedInPrepare("wrong checksum", [](Node* n) { n->bytes[30] ^= 1; });
  CheckRefusedInPrepare("version 2", [](Node* n) {
    n->bytes[4] = 2;
    Seal(&n->bytes);
  });
  CheckRefusedInPrepare("does not fit num_layers 1", [](Node* n) { n->bytes = PackOpOptions(Shape{}.op(1)); });
  CheckRefusedInPrepare("wanted flags 1 and a reserved 0, got 4 and 0; convert the model again", [](Node* n) {
    n->bytes[6] = 4;
    Seal(&n->bytes);
  });
}

void TestDamagedShapes() {
  CheckRefusedInPrepare("expected 6 inputs and 1 outputs, got 5 and 1", [](Node* n) { n->drop_inputs = 1; });
  CheckRefusedInPrepare("expected 6 inputs and 1 outputs, got 0 and 1", [](Node* n) { n->drop_inputs = 6; });
  CheckRefusedInPrepare("got 6 and 2", [](Node* n) { n->extra_outputs = 1; });
  CheckRefusedInPrepare("an input or output is missing", [](Node* n) { n->missing_input = 2; });
  CheckRefusedInPrepare("q must be float32, got int8", [](Node* n) { n->q_type = tflite::kInt8; });
  CheckRefusedInPrepare("position must be int32, got int64", [](Node* n) { n->position_type = tflite::kInt64; });
  CheckRefusedInPrepare("output o must be float32, got int32", [](Node* n) { n->o_type = tflite::kInt32; });
  CheckRefusedInPrepare("q must have shape [1,any,4,8], got [1,3,8]", [](Node* n) { n->q = {1, 3, 8}; });
  CheckRefusedInPrepare("q must have shape", [](Node* n) { n->q = {1, 4, 3, 8}; });
  CheckRefusedInPrepare("q must have shape", [](Node* n) { n->q = {2, 3, 4, 8}; });
  CheckRefusedInPrepare("q must have shape", [](Node* n) { n->q = {1, 0, 4, 8}; });
  CheckRefusedInPrepare("k must have shape [1,3,2,8], got [1,2,2,8]", [](Node* n) { n->k = {1, 2, 2, 8}; });
  CheckRefusedInPrepare("v must have shape [1,3,2,8], got [1,3,2,9]", [](Node* n) { n->v = {1, 3, 2, 9}; });
  CheckRefusedInPrepare("position must have shape [1], got [2]", [](Node* n) { n->scalar = {2}; });
  CheckRefusedInPrepare("position must have shape [1], got []", [](Node* n) { n->scalar = {}; });
}

void TestNullData() {
  TestDelegate delegate(kShape, "mode=dense");
  OpGraph graph(kShape, 3);
  CHECK(graph.runtime.Apply(delegate.base()));
  for (int index : {graph.q[0], graph.k[0], graph.v[0], graph.position, graph.o[0]}) {
    void* data = graph.runtime.tensor(index).data;
    const size_t bytes = graph.runtime.tensor(index).bytes;
    if (index != graph.position) {
      *graph.runtime.data<int32_t>(graph.n_valid) = 3;
      graph.runtime.tensor(index).data = nullptr;
      CheckError(graph.runtime.Invoke(), graph.runtime, "has 0 bytes of data");
      graph.runtime.tensor(index).data = data;
    }
    graph.runtime.tensor(index).bytes = 3;
    CheckError(graph.runtime.Invoke(), graph.runtime, "has 3 bytes of data");
    graph.runtime.tensor(index).bytes = bytes;
  }
  CHECK(delegate.length() == 0 && graph.Run(0, 3));
}

// A graph without our ops, and one with another's custom op, are left alone.
void TestNothingToClaim() {
  TestDelegate delegate(kShape, "mode=dense");
  FakeRuntime empty;
  CHECK(empty.Apply(delegate.base()) && empty.partitions() == 0);
  FakeRuntime other;
  const int tensor = other.AddTensor(tflite::kFloat32, {1});
  other.AddNode("SomebodyElse", {}, {tensor}, {tensor});
  CHECK(other.Apply(delegate.base()) && other.partitions() == 0);
}

}  // namespace

int main() {
  TestIntegers();
  TestRandomIntegers();
  TestNoPlan();
  TestOtherModel();
  TestDamagedOptions();
  TestDamagedShapes();
  TestNullData();
  TestNothingToClaim();
  return Finish();
}
