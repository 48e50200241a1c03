// k of a row, and which positions it keeps whatever their score.
#include "top_k.h"

#include "tests/check.h"
#include "tests/oracle.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

CacheSettings MakeSettings(double keep_ratio, int min_k, int sinks, int latest) {
  CacheSettings settings;
  settings.mode = Mode::kShadowPaper;
  settings.keep_ratio = keep_ratio;
  settings.min_k = min_k;
  settings.sinks = sinks;
  settings.latest = latest;
  return settings;
}

void TestKeptPositions() {
  const CacheSettings tenth = MakeSettings(0.1, 8, 0, 0);
  CHECK(KeptPositions(tenth, 1) == 1 && KeptPositions(tenth, 8) == 8 && KeptPositions(tenth, 80) == 8);
  CHECK(KeptPositions(tenth, 84) == 8 && KeptPositions(tenth, 85) == 9 && KeptPositions(tenth, 1000) == 100);
  CHECK(KeptPositions(tenth, 1000, 0.0) == 8 && KeptPositions(tenth, 1000, 0.5) == 50);
  CHECK(KeptPositions(tenth, 1000, 2.5) == 250 && KeptPositions(tenth, 1000, 11) == 1000);
  CHECK(KeptPositions(MakeSettings(kAutoKeepRatio, 1, 0, 0), 1000) == 200);
  CHECK(KeptPositions(MakeSettings(kAutoKeepRatio, 1, 0, 0), 1000, 0.5) == 100);
  CHECK(KeptPositions(MakeSettings(1e-9, 1, 0, 0), 1 << 24) == 1);
}

void TestKeptRanges() {
  for (int sinks : {0, 1, 4, 50}) {
    for (int latest : {0, 1, 2, 16, 50}) {
      const CacheSettings settings = MakeSettings(0.3, 3, sinks, latest);
      for (int64_t n = 1; n < 80; ++n) {
        const int64_t k = KeptPositions(settings, n);
        const KeptRanges kept = SplitKept(settings, n, k);
        CHECK(0 <= kept.scored_begin && kept.scored_begin <= kept.scored_end && kept.scored_end < n);
        CHECK(0 <= kept.scored_k && kept.scored_k <= kept.scored_end - kept.scored_begin);
        CHECK(kept.scored_begin + kept.scored_k + n - kept.scored_end == k);
        std::vector<int64_t> equal(n, 0);  // equal scores: newest first, so the last of the scored range
        const std::vector<int64_t> wanted = OracleSelect(equal, settings);
        CHECK(int64_t(wanted.size()) == k);
        for (int64_t i = 0; i < kept.scored_begin; ++i) CHECK(wanted[i] == i);
        for (int64_t i = 0; i < kept.scored_k; ++i) {
          CHECK(wanted[kept.scored_begin + i] == kept.scored_end - kept.scored_k + i);
        }
      }
    }
  }
}

}  // namespace

int main() {
  TestKeptPositions();
  TestKeptRanges();
  return Finish();
}
