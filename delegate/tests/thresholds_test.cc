// The threshold of a row: a setting, the plan's for auto, or out of the plan's table (the golden plan's, as in
// tests/models/test_plan.py), between its entries and beyond them.
#include "attention/thresholds.h"

#include <cmath>

#include "engine/modes.h"
#include "tests/check.h"
#include "tests/format_bytes.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

Plan GoldenPlan() {
  Plan plan;
  CHECK_OK(Plan::Load(std::string(SHADOW_GOLDEN_DIR) + "/plan.bin", &plan));
  return plan;
}

double At(const Plan& plan, double keep_ratio, int64_t length, double threshold = 0) {
  CacheSettings settings{DefaultMode()};
  settings.keep_ratio = keep_ratio;
  settings.threshold = threshold;
  return Thresholds(settings, plan).At(length);
}

void TestConstants() {
  const Plan plan = GoldenPlan();
  for (int64_t length : {1, 64, 5000, 1 << 24}) {
    const double wanted = length <= 2048 ? 1.0 / 128 : 2048.0 / 128 / double(length);
    CHECK(std::fabs(At(plan, kAutoKeepRatio, length) / wanted - 1) < 1e-12);
    CHECK(At(plan, kAutoKeepRatio, length, 0.25) == 0.25);
    CHECK(At(plan, 0.5, length, 0.25) == 0.25);
  }
}

void TestTable() {
  const struct {
    double keep_ratio;
    int64_t length;
    double inverse;
  } cases[] = {{0.125, 64, 16},           {0.125, 1, 16},    {0.01, 64, 16},
               {0.125, 160, 40},          {0.125, 640, 160}, {0.125, 1024, 256},
               {0.125, 2048, 512},        {0.5, 64, 32},     {1.0, 64, 32},
               {0.25, 64, 16 + 16.0 / 3}, {0.3125, 160, 92}, {0.3125, 1024 * 1024, 1152.0 * 1024}};
  const Plan plan = GoldenPlan();
  for (const auto& c : cases) CHECK(std::fabs(At(plan, c.keep_ratio, c.length) * c.inverse - 1) < 1e-12);
}

// Ratios whose nearest floats lie on either side: the table's own entry, not one beside it.
void TestRatiosOfTheTable() {
  const Bytes bytes = PackPlan({1, 2, 1, 4}, 0, 1);
  Plan plan;
  CHECK_OK(Plan::Parse(bytes.data(), bytes.size(), "plan", &plan));
  for (double ratio : {0.01, 0.1, 1.0}) {
    CHECK(std::fabs(At(plan, ratio, 64) * (1 + 4 * ratio * 64) - 1) < 1e-6);
    CHECK(std::fabs(At(plan, ratio, 256) * (1 + 4 * ratio * 256) - 1) < 1e-6);
    CHECK(std::fabs(At(plan, ratio, 160) * (1 + 4 * ratio * 160) - 1) < 1e-6);
  }
}

}  // namespace

int main() {
  TestConstants();
  TestTable();
  TestRatiosOfTheTable();
  return Finish();
}
