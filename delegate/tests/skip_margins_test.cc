// Margins from skip-loss samples: which count, in which blocks, and what rewinding leaves of them.
#include "cache/skip_margins.h"

#include <algorithm>
#include <cmath>

#include "tests/check.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

constexpr int kHeads = 3;

// `at_margin` 65535ths lost at the least margin, half as much at each that follows, at least one (of zero: none).
void AddSample(int64_t position, int64_t head, int at_margin, SkipMargins* skip_margins) {
  uint16_t lost[kNumSkipMargins];
  for (int i = 0; i < kNumSkipMargins; ++i) lost[i] = uint16_t(std::max(at_margin >> i, std::min(at_margin, 1)));
  skip_margins->AddSample(1, head, position, lost);
}

// Layer 1 of two, `rows` positions long; every sample is the same.
SkipMargins Filled(int64_t rows, int at_margin) {
  SkipMargins skip_margins;
  skip_margins.Bind(2, kHeads);
  skip_margins.Reserve(1, rows);
  for (int64_t position = 0; position < rows; ++position) {
    if (!SkipMargins::IsSampled(position)) continue;
    for (int head = 0; head < kHeads; ++head) AddSample(position, head, at_margin << head, &skip_margins);
  }
  return skip_margins;
}

float MarginOf(SkipMargins* skip_margins, int head, int64_t position, double share) {
  return skip_margins->MarginsAt(1, position, share)[head];
}

void TestMargins() {
  SkipMargins skip_margins = Filled(600, 6554);  // a tenth, a fifth, two fifths at the least margin
  for (int head = 0; head < kHeads; ++head) {
    CHECK(MarginOf(&skip_margins, head, 256, 0.9) == kSkipMargins[0]);
    CHECK(MarginOf(&skip_margins, head, 512, 0.066) == kSkipMargins[1 + head]);  // 32 * 0.05 and a half are 32 * 0.0656
    CHECK(MarginOf(&skip_margins, head, 512, 0.041) ==
          kSkipMargins[2 + head]);  // 32 * 0.025 and a half are 32 * 0.0406
    CHECK(std::isinf(MarginOf(&skip_margins, head, 512, 1e-9)));
    CHECK(std::isinf(MarginOf(&skip_margins, head, 8, 0.9)));      // no samples
    CHECK(std::isinf(skip_margins.MarginsAt(0, 512, 0.9)[head]));  // a layer without samples
  }
}

// Few rows that lost nothing prove little.
void TestFewSamples() {
  SkipMargins skip_margins = Filled(600, 0);
  CHECK(std::isinf(MarginOf(&skip_margins, 0, 512, 0.0155)));
  CHECK(MarginOf(&skip_margins, 0, 512, 0.0157) == kSkipMargins[0]);  // half a row of 32
}

void TestOnlyTheLatestCount() {
  SkipMargins skip_margins = Filled(5100, 65534);
  for (int64_t position = 920; position < 5100; position += 16)
    AddSample(position, 0, 0, &skip_margins);                         // 8 modulo 16
  CHECK(MarginOf(&skip_margins, 0, 4992, 0.0022) > kSkipMargins[0]);  // reaches back to the sample at 904
  CHECK(MarginOf(&skip_margins, 0, 5008, 0.0022) == kSkipMargins[0]);
  CHECK(MarginOf(&skip_margins, 1, 5008, 0.0022) ==
        kSkipMargins[13]);  // 256 * 2^-12 of another head, and a half: 256 * 0.0022
}

void TestRewinding() {
  SkipMargins skip_margins = Filled(600, 6554);
  const int64_t bytes = skip_margins.bytes();
  CHECK(bytes == 37 * kHeads * kNumSkipMargins * 2);
  skip_margins.Truncate(1, 264);  // the row at 264 is gone
  CHECK(skip_margins.bytes() == 16 * kHeads * kNumSkipMargins * 2);
  CHECK(MarginOf(&skip_margins, 0, 512, 0.1325) ==
        kSkipMargins[0]);  // 16 samples: 16 * 0.1 and a half are 16 * 0.13125
  skip_margins.Truncate(1, 248);
  CHECK(MarginOf(&skip_margins, 0, 512, 0.1325) == kSkipMargins[1]);  // 15 samples: 15 * 0.13333
  skip_margins.Truncate(1, 8);
  CHECK(std::isinf(MarginOf(&skip_margins, 0, 512, 0.9)));
  skip_margins.Reserve(1, 600);  // room, but no samples
  CHECK(std::isinf(MarginOf(&skip_margins, 0, 512, 0.9)) && skip_margins.bytes() == bytes);
  AddSample(5000, 0, 1, &skip_margins);  // after the room: not written
}

}  // namespace

int main() {
  TestMargins();
  TestFewSamples();
  TestOnlyTheLatestCount();
  TestRewinding();
  return Finish();
}
