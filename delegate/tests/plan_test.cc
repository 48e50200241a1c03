// plan.bin: the golden file that the Python twin writes, and every kind of damage.
#include "plan.h"

#include <cmath>

#include "tests/check.h"
#include "tests/format_bytes.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

Status Parse(const Bytes& bytes) {
  Plan plan;
  return Plan::Parse(bytes.data(), bytes.size(), "plan.bin", &plan);
}

// 2 layers, 4 query heads, 2 KV heads, head_dim 3; every value says where it belongs (tests/models/test_plan.py).
void TestGolden() {
  Plan plan;
  CHECK_OK(Plan::Load(std::string(SHADOW_GOLDEN_DIR) + "/plan.bin", &plan));
  CHECK(plan.estimate_multiplier() == 0.0078125f);
  const float scales[2][2] = {{0.5f, 0.25f}, {0.125f, 2.0f}};
  for (int layer = 0; layer < 2; ++layer) {
    for (int head = 0; head < 2; ++head) {
      CHECK(plan.scale(layer, head) == scales[layer][head]);
      for (int c = 0; c < 3; ++c) {
        const float centre = float((layer * 2 + head) * 3 + c) / 8;
        CHECK(plan.centre(layer, head)[c] == centre);
        CHECK(plan.k_variance(layer, head)[c] == centre + 100);
      }
    }
  }
  CHECK_OK(plan.CheckFits({kFormFused, 0, 2, 4, 2, 3, 1.0f, 0}));
  CHECK_REFUSED(plan.CheckFits({kFormFused, 0, 2, 2, 2, 3, 1.0f, 0}), "pass the plan of this bundle");
  CHECK_REFUSED(plan.CheckFits({kFormFused, 0, 3, 4, 2, 3, 1.0f, 0}), "made for 2 layers");
}

void TestDamage() {
  const Bytes good = PackPlan({2, 4, 2, 3}, 0.5f, 0.25f);
  CHECK_OK(Parse(good));
  for (size_t size = 0; size < good.size(); ++size) {
    CHECK_REFUSED(Parse(Bytes(good.begin(), good.begin() + size)), "plan.bin");
  }
  for (size_t i = 0; i < good.size(); ++i) {
    Bytes flipped = good;
    flipped[i] ^= 0x20;
    CHECK(!Parse(flipped).ok());
  }
  Bytes future = good;
  future[4] = 9;
  Seal(&future);
  CHECK_REFUSED(Parse(future), "version 9");
}

void TestImpossibleNumbers() {
  CHECK_REFUSED(Parse(PackPlan({1, 4, 2, 3}, NAN, 0.25f)), "NaN");
  CHECK_REFUSED(Parse(PackPlan({1, 4, 2, 3}, 0, INFINITY)), "infinity");
  CHECK_REFUSED(Parse(PackPlan({1, 4, 2, 3}, 0, 0)), "must be positive");
  CHECK_REFUSED(Parse(PackPlan({1, 4, 2, 3}, 0, -1)), "must be positive");
  CHECK_REFUSED(Parse(PackPlan({1, 4, 2, 3}, 0, 1, 0)), "estimate_multiplier");
  CHECK_REFUSED(Parse(PackPlan({1, 4, 2, 3}, 0, 1, NAN)), "estimate_multiplier");
  CHECK_REFUSED(Parse(PackPlan({1, 4, 3, 3}, 0, 1)), "impossible shape");
  Bytes huge = PackPlan({1, 4, 2, 3}, 0, 1);
  for (size_t i = 8; i < 24; ++i) huge[i] = 0x7F;
  Seal(&huge);
  CHECK_REFUSED(Parse(huge), "impossible shape");
  Plan plan;
  CHECK_REFUSED(Plan::Load("/nowhere/plan.bin", &plan), "cannot be opened");
  CHECK_REFUSED(Plan::Load("/", &plan), "plan /");
}

}  // namespace

int main() {
  TestGolden();
  TestDamage();
  TestImpossibleNumbers();
  return Finish();
}
