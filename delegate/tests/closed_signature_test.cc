// Closed signatures: claimed whole but for one weightless node, refused by name when invoked; open ones: our nodes
// only.
#include "tflite/closed_signature.h"

#include "tests/graphs.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

constexpr int32_t kAdd = 0;

void TestNames() {
  OpenSignatures open;
  CHECK(open.IsOpen("decode") && open.IsOpen(""));
  open.Set("decode,,prefill_4");
  CHECK(open.IsOpen("decode") && open.IsOpen("prefill_4") && open.IsOpen(""));
  CHECK(!open.IsOpen("prefill_8") && !open.IsOpen("prefill"));
  open.Set("");
  CHECK(open.IsOpen("prefill_8"));
  tflite::Tensor tensor{};
  tflite::Context context{};
  CHECK(SignatureOf(context).empty());
  context.tensors = &tensor;
  context.tensors_size = 1;
  CHECK(SignatureOf(context).empty());
  tensor.name = "tokens";
  CHECK(SignatureOf(context).empty());
  tensor.name = "prefill_4:a:b";
  CHECK(SignatureOf(context) == "prefill_4");
}

// FULLY_CONNECTED, ADD, our op, FULLY_CONNECTED, ADD in a row.
struct MixedGraph {
  explicit MixedGraph(const char* name) {
    int tensor[10];
    for (int& t : tensor) t = runtime.AddTensor(tflite::kFloat32, {1, 1, 1, 4});
    const int scalar = runtime.AddTensor(tflite::kInt32, {1});
    const int o = runtime.AddTensor(tflite::kFloat32, {1, 1, 4});
    const Shape shape{1, 1, 1, 4};
    runtime.tensor(0).name = name;
    runtime.AddBuiltinNode(tflite::kBuiltinFullyConnected, {tensor[0]}, {tensor[1]});
    runtime.AddBuiltinNode(kAdd, {tensor[1]}, {tensor[2]});
    runtime.AddNode(kSparseAttentionName, PackOpOptions(shape.op(0)),
                    {tensor[2], tensor[2], tensor[2], scalar, scalar, scalar}, {o});
    runtime.AddBuiltinNode(tflite::kBuiltinFullyConnected, {o}, {tensor[3]});
    runtime.AddBuiltinNode(kAdd, {tensor[3]}, {tensor[4]});
    runtime.SetGraphOutputs({tensor[4]});
  }
  FakeRuntime runtime;
};

void TestClaims() {
  TestDelegate delegate(Shape{1, 1, 1, 4}, "mode=dense");
  delegate.engine().signatures().Set("decode");
  MixedGraph open("decode:tokens");
  CHECK(open.runtime.Apply(delegate.base()) && open.runtime.partitions() == 1);
  CHECK(!open.runtime.Invoke() && Contains(open.runtime.error(), "n_valid"));  // our op runs
  MixedGraph closed("prefill_4:tokens");
  CHECK(closed.runtime.Apply(delegate.base()));
  CHECK(closed.runtime.partitions() == 2);  // the first ADD stays with the runtime
  CHECK(!closed.runtime.Invoke() && Contains(closed.runtime.error(), "signature prefill_4 was not opened"));
  CHECK(closed.runtime.Prepare() && delegate.length() == 0);
  MixedGraph nameless("tokens");
  CHECK(nameless.runtime.Apply(delegate.base()) && nameless.runtime.partitions() == 1);
}

}  // namespace

int main() {
  TestNames();
  TestClaims();
  return Finish();
}
