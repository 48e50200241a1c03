// Option bytes: the golden files that the Python twin reads too, and every kind of damage.
#include "config/op_options.h"

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
  CHECK(o.layer == 3 && o.num_layers == 30 && o.num_heads == 9 && o.num_kv_heads == 3);
  CHECK(o.head_dim == 64 && o.softmax_scale == 0.125f && o.group() == 3);
}

void TestDamage() {
  const Bytes good = PackOpOptions({0, 1, 4, 2, 8, 0.5f});
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

// 2 and 4 marked the ops of a form that is no more, which had a length in the reserved field.
void TestOtherFlags() {
  for (const auto& [flags, reserved] : {std::pair{0, 0}, {2, 0}, {4, 1024}, {6, 0}, {9, 0}, {1, 1}}) {
    Bytes bytes = PackOpOptions({0, 1, 4, 2, 8, 0.5f});
    bytes[6] = uint8_t(flags);
    std::memcpy(bytes.data() + 32, &reserved, sizeof(reserved));
    Seal(&bytes);
    const std::string got = std::to_string(flags) + " and " + std::to_string(reserved);
    CHECK_REFUSED(Decode(bytes), "wanted flags 1 and a reserved 0, got " + got + "; convert the model again");
  }
}

void TestImpossibleNumbers() {
  CHECK_REFUSED(Decode(PackOpOptions({0, 1, 5, 2, 8, 0.5f})), "multiple");
  CHECK_REFUSED(Decode(PackOpOptions({0, 1, 0, 0, 8, 0.5f})), "multiple");
  CHECK_REFUSED(Decode(PackOpOptions({0, 1, 4, -2, 8, 0.5f})), "multiple");
  CHECK_REFUSED(Decode(PackOpOptions({0, 1, 4, 2, 0, 0.5f})), "head_dim");
  CHECK_REFUSED(Decode(PackOpOptions({0, 1, 4, 2, 513, 0.5f})), "head_dim");
  CHECK_REFUSED(Decode(PackOpOptions({1, 1, 4, 2, 8, 0.5f})), "layer 1");
  CHECK_REFUSED(Decode(PackOpOptions({-1, 1, 4, 2, 8, 0.5f})), "layer -1");
  CHECK_REFUSED(Decode(PackOpOptions({0, 0, 4, 2, 8, 0.5f})), "num_layers 0");
  CHECK_REFUSED(Decode(PackOpOptions({0, 1, 4, 2, 8, NAN})), "softmax scale");
}

}  // namespace

int main() {
  TestGolden();
  TestDamage();
  TestOtherFlags();
  TestImpossibleNumbers();
  return Finish();
}
