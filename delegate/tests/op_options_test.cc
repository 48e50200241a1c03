// Option bytes: the golden files that the Python twin reads too, and every kind of damage.
#include "op_options.h"

#include <cmath>

#include "tests/check.h"
#include "tests/format_bytes.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

Status Decode(const Bytes& bytes) {
  OpOptions options;
  return DecodeOpOptions(bytes.data(), bytes.size(), &options);
}

void TestGolden() {
  const std::string folder = SHADOW_GOLDEN_DIR;
  OpOptions o;
  Bytes bytes = ReadBytes(folder + "/op_options_fused.bin");
  CHECK_OK(DecodeOpOptions(bytes.data(), bytes.size(), &o));
  CHECK(o.form == kFormFused && o.layer == 3 && o.num_layers == 30 && o.num_heads == 9 && o.num_kv_heads == 3);
  CHECK(o.head_dim == 64 && o.softmax_scale == 0.125f && o.seq_len == 0 && o.group() == 3);
  bytes = ReadBytes(folder + "/op_options_attend.bin");
  CHECK_OK(DecodeOpOptions(bytes.data(), bytes.size(), &o));
  CHECK(o.form == (kFormScores | kFormLayerInput) && o.layer == -1 && o.num_layers == 2 && o.head_dim == 40);
  bytes = ReadBytes(folder + "/op_options_append.bin");
  CHECK_OK(DecodeOpOptions(bytes.data(), bytes.size(), &o));
  CHECK(o.form == kFormLayerInput && o.seq_len == 1024);
}

void TestDamage() {
  const Bytes good = PackOpOptions({kFormFused, 0, 1, 4, 2, 8, 0.5f, 0});
  CHECK_OK(Decode(good));
  for (size_t size = 0; size < good.size(); ++size) {
    CHECK_REFUSED(Decode(Bytes(good.begin(), good.begin() + size)), "expected 40 option bytes");
  }
  Bytes longer = good;
  longer.push_back(0);
  CHECK_REFUSED(Decode(longer), "got 41");
  for (size_t i = 0; i < good.size(); ++i) {
    Bytes flipped = good;
    flipped[i] ^= 0x10;
    CHECK(!Decode(flipped).ok());
  }
  Bytes future = good;
  future[4] = 2;
  Seal(&future);
  CHECK_REFUSED(Decode(future), "version 2");
  OpOptions untouched;
  CHECK_REFUSED(DecodeOpOptions(nullptr, 40, &untouched), "expected 40 option bytes");
}

void TestImpossibleNumbers() {
  CHECK_REFUSED(Decode(PackOpOptions({kFormFused, 0, 1, 5, 2, 8, 0.5f, 0})), "multiple");
  CHECK_REFUSED(Decode(PackOpOptions({kFormFused, 0, 1, 0, 0, 8, 0.5f, 0})), "multiple");
  CHECK_REFUSED(Decode(PackOpOptions({kFormFused, 0, 1, 4, -2, 8, 0.5f, 0})), "multiple");
  CHECK_REFUSED(Decode(PackOpOptions({kFormFused, 0, 1, 4, 2, 0, 0.5f, 0})), "head_dim");
  CHECK_REFUSED(Decode(PackOpOptions({kFormFused, 0, 1, 4, 2, 513, 0.5f, 0})), "head_dim");
  CHECK_REFUSED(Decode(PackOpOptions({kFormFused, 1, 1, 4, 2, 8, 0.5f, 0})), "layer 1");
  CHECK_REFUSED(Decode(PackOpOptions({kFormFused, -1, 1, 4, 2, 8, 0.5f, 0})), "layer -1");
  CHECK_REFUSED(Decode(PackOpOptions({kFormLayerInput, 0, 1, 4, 2, 8, 0.5f, 0})), "layer 0");
  CHECK_REFUSED(Decode(PackOpOptions({kFormFused, 0, 0, 4, 2, 8, 0.5f, 0})), "num_layers 0");
  CHECK_REFUSED(Decode(PackOpOptions({kFormFused, 0, 1, 4, 2, 8, NAN, 0})), "softmax scale");
  CHECK_REFUSED(Decode(PackOpOptions({kFormLayerInput, -1, 1, 4, 2, 8, 0.5f, -1})), "seq_len");
}

}  // namespace

int main() {
  TestGolden();
  TestDamage();
  TestImpossibleNumbers();
  return Finish();
}
