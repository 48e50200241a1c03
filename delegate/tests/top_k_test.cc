// k of a row, and which positions it selects whatever their score.
#include "baselines/top_k.h"

#include "engine/modes.h"
#include "tests/check.h"
#include "tests/oracle.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

CacheSettings MakeSettings(double keep_ratio, int min_k, int sinks, int latest) {
  CacheSettings settings{DefaultMode()};
  settings.keep_ratio = keep_ratio;
  settings.min_k = min_k;
  settings.sinks = sinks;
  settings.latest = latest;
  return settings;
}

void TestSelectedCount() {
  const CacheSettings tenth = MakeSettings(0.1, 8, 0, 0);
  CHECK(SelectedCount(tenth, 1) == 1 && SelectedCount(tenth, 8) == 8 && SelectedCount(tenth, 80) == 8);
  CHECK(SelectedCount(tenth, 84) == 8 && SelectedCount(tenth, 85) == 9 && SelectedCount(tenth, 1000) == 100);
  CHECK(SelectedCount(tenth, 1000, 0.0) == 8 && SelectedCount(tenth, 1000, 0.5) == 50);
  CHECK(SelectedCount(tenth, 1000, 2.5) == 250 && SelectedCount(tenth, 1000, 11) == 1000);
  CHECK(SelectedCount(MakeSettings(kAutoKeepRatio, 1, 0, 0), 1000) == 200);
  CHECK(SelectedCount(MakeSettings(kAutoKeepRatio, 1, 0, 0), 1000, 0.5) == 100);
  CHECK(SelectedCount(MakeSettings(1e-9, 1, 0, 0), 1 << 24) == 1);
}

void TestForcedRanges() {
  for (int sinks : {0, 1, 4, 50}) {
    for (int latest : {0, 1, 2, 16, 50}) {
      const CacheSettings settings = MakeSettings(0.3, 3, sinks, latest);
      for (int64_t n = 1; n < 80; ++n) {
        const int64_t k = SelectedCount(settings, n);
        const ForcedRanges forced = SplitForced(settings, n, k);
        CHECK(0 <= forced.scored_begin && forced.scored_begin <= forced.scored_end && forced.scored_end < n);
        CHECK(0 <= forced.scored_k && forced.scored_k <= forced.scored_end - forced.scored_begin);
        CHECK(forced.scored_begin + forced.scored_k + n - forced.scored_end == k);
        std::vector<int64_t> equal(n, 0);  // equal scores: newest first, so the last of the scored range
        const std::vector<int64_t> wanted = OracleSelect(equal, settings);
        CHECK(int64_t(wanted.size()) == k);
        for (int64_t i = 0; i < forced.scored_begin; ++i) CHECK(wanted[i] == i);
        for (int64_t i = 0; i < forced.scored_k; ++i) {
          CHECK(wanted[forced.scored_begin + i] == forced.scored_end - forced.scored_k + i);
        }
      }
    }
  }
}

}  // namespace

int main() {
  TestSelectedCount();
  TestForcedRanges();
  return Finish();
}
