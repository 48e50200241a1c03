// plan.bin: the golden file that the Python twin writes, and every kind of damage.
#include "config/plan.h"

#include <cmath>
#include <cstring>

#include "tests/check.h"
#include "tests/format_bytes.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

Status Parse(const Bytes& bytes) {
  Plan plan;
  return Plan::Parse(bytes.data(), bytes.size(), "plan.bin", &plan);
}

void TestGoldenTable(const ThresholdTable& table) {
  CHECK(table.keep_ratios == (std::vector<float>{0.125f, 0.5f}));
  CHECK(table.lengths == (std::vector<float>{64, 256, 1024}));
  const float wanted[2][3] = {{1.0f / 16, 1.0f / 64, 1.0f / 256}, {1.0f / 32, 1.0f / 256, 1.0f / 2048}};
  for (int ratio = 0; ratio < 2; ++ratio) {
    for (int length = 0; length < 3; ++length) CHECK(table.at(ratio, length) == wanted[ratio][length]);
  }
}

void TestGoldenGrid(const Plan& plan) {
  CHECK(plan.q_buckets() == 2 && plan.k_buckets() == 3);
  const float k_scales[] = {0.25f, 1.0f, 4.0f};
  for (int i = 0; i < 2; ++i) {
    CHECK(plan.q_scale(i) == 0.5f + 0.25f * float(i));
    for (int j = 0; j < 3; ++j) CHECK(plan.k_scale(j) == k_scales[j] && plan.score_scale(i, j) == float(1 + 3 * i + j));
  }
}

// 2 layers, 4 query heads, 2 KV heads, head_dim 3; every value says where it belongs (tests/models/test_plan.py).
void TestGolden() {
  Plan plan;
  CHECK_OK(Plan::Load(std::string(SHADOW_GOLDEN_DIR) + "/plan.bin", &plan));
  CHECK(plan.estimate_multiplier() == 0.0078125f && plan.auto_threshold() == 1.0f / 128);
  CHECK(plan.num_layers() == 2 && plan.num_heads() == 4);
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
  for (int layer = 0; layer < 2; ++layer) {
    for (int head = 0; head < 4; ++head) {
      const auto index = float(layer * 4 + head);
      CHECK(plan.threshold_factors(layer)[head] == 1 + index / 8 && plan.paper_budgets(layer)[head] == index / 4);
    }
    const StaticRanges r = plan.static_ranges(layer);
    const auto first = float(layer * 15);
    CHECK(r.q == first && r.k == first + 3 && r.v == first + 6 && r.score == first + 9 && r.out == first + 12);
  }
  TestGoldenTable(plan.thresholds());
  TestGoldenGrid(plan);
  CHECK_OK(plan.CheckFits({0, 2, 4, 2, 3, 1.0f}));
  CHECK_REFUSED(plan.CheckFits({0, 2, 2, 2, 3, 1.0f}), "pass the plan of this bundle");
  CHECK_REFUSED(plan.CheckFits({0, 3, 4, 2, 3, 1.0f}), "made for 2 layers");
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
  for (int version : {0, 1, 2, 4, 9}) {
    future[4] = uint8_t(version);
    Seal(&future);
    CHECK_REFUSED(Parse(future), "plan version " + std::to_string(version) + ", this delegate knows 3");
  }
}

// A good plan of 1 layer, 4 query heads, 2 KV heads, head_dim 3, whose 4 bytes at `offset` are `value`.
template <typename T>
Status ParseWith(size_t offset, T value) {
  Bytes bytes = PackPlan({1, 4, 2, 3}, 0.5f, 0.25f);
  std::memcpy(bytes.data() + offset, &value, sizeof(value));
  Seal(&bytes);
  return Parse(bytes);
}

void TestImpossibleTables() {
  constexpr size_t kAuto = 28, kCounts = 32, kRatios = 48, kLengths = kRatios + 3 * 4, kValues = kLengths + 2 * 4;
  for (float bad : {0.0f, -0.5f, 1.0f, 1e-42f, NAN, INFINITY}) {
    CHECK_REFUSED(ParseWith(kAuto, bad), "auto_threshold must be in (0, 1)");
    CHECK_REFUSED(ParseWith(kValues + 5 * 4, bad), "thresholds must be in (0, 1)");
  }
  for (size_t offset : {kRatios, kRatios + 4, kRatios + 8, kLengths, kLengths + 4}) {
    for (float bad : {0.0f, -1.0f, NAN, INFINITY}) CHECK_REFUSED(ParseWith(offset, bad), "must ascend");
  }
  CHECK_REFUSED(ParseWith(kRatios + 8, 1.5f), "must ascend");   // above 1
  CHECK_REFUSED(ParseWith(kRatios + 4, 0.01f), "must ascend");  // equal
  for (uint32_t bad : {0u, 257u, 0xFFFFFFFFu}) {
    CHECK_REFUSED(ParseWith(kCounts, bad), "are not a threshold table");
    CHECK_REFUSED(ParseWith(kCounts + 4, bad), "are not a threshold table");
  }
  CHECK_REFUSED(ParseWith(kCounts, 4u), "truncated");
  const size_t factors = kValues + 6 * 4 + (2 * 6 + 2) * 4, budgets = factors + 4 * 4, ranges = budgets + 4 * 4;
  for (float bad : {0.0f, -1.0f, 1e-42f})
    CHECK_REFUSED(ParseWith(factors + 4, bad), "layer 0, head 1 must be positive");
  CHECK_REFUSED(ParseWith(budgets + 8, -1.0f), "layer 0, head 2 must be positive");
  CHECK_OK(ParseWith(budgets + 8, 0.0f));
  CHECK_REFUSED(ParseWith(ranges + 4 * 4, -1.0f), "range of layer 0 is negative");
  for (size_t offset : {factors, budgets, ranges}) CHECK_REFUSED(ParseWith(offset, INFINITY), "infinity");
}

// A good plan with the grid {0.5, 1, 2} x {0.25, 0.5}, whose 4 bytes at `offset` are `value`.
template <typename T>
Status ParseGridWith(size_t offset, T value) {
  Bytes bytes = PackPlan({1, 4, 2, 3}, 0.5f, 0.25f, 0.25f, {{0.5f, 1, 2}, {0.25f, 0.5f}, {1, 2, 3, 4, 5, 6}});
  std::memcpy(bytes.data() + offset, &value, sizeof(value));
  Seal(&bytes);
  return Parse(bytes);
}

void TestImpossibleGrids() {
  constexpr size_t kCounts = 40, kQ = 48 + (3 + 2 + 3 * 2) * 4, kK = kQ + 3 * 4, kScores = kK + 2 * 4;
  CHECK_OK(ParseGridWith(kQ, 0.25f));
  for (size_t offset : {kQ, kQ + 8, kK, kScores, kScores + 5 * 4}) {
    for (float bad : {0.0f, -1.0f, 1e-42f, NAN, INFINITY}) {
      CHECK_REFUSED(ParseGridWith(offset, bad), "bucket grid must be positive");
    }
  }
  CHECK_REFUSED(ParseGridWith(kQ + 4, 0.5f), "bucket grid must ascend");
  CHECK_REFUSED(ParseGridWith(kK + 4, 0.125f), "bucket grid must ascend");
  for (uint32_t bad : {0u, 17u, 0xFFFFFFFFu}) {
    CHECK_REFUSED(ParseGridWith(kCounts, bad), "are not a bucket grid");
    CHECK_REFUSED(ParseGridWith(kCounts + 4, bad), "are not a bucket grid");
  }
  CHECK_REFUSED(ParseGridWith(kCounts, 2u), "truncated");
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
  TestImpossibleTables();
  TestImpossibleGrids();
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
