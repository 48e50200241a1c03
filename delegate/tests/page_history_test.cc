// Margins from what rows noted: which count, in which blocks, and what rewinding leaves of them.
#include "page_history.h"

#include <algorithm>
#include <cmath>

#include "tests/check.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

constexpr int kHeads = 3;

// `of_margin` 65535ths lost at the least margin, half as much at each that follows, at least one (of zero: none).
void Note(int64_t position, int64_t head, int of_margin, PageHistory* history) {
  uint16_t lost[kNumMargins];
  for (int i = 0; i < kNumMargins; ++i) lost[i] = uint16_t(std::max(of_margin >> i, std::min(of_margin, 1)));
  history->Note(1, head, position, lost);
}

// Layer 1 of two, `rows` positions long; every row that notes something notes the same.
PageHistory Filled(int64_t rows, int of_margin) {
  PageHistory history;
  history.Bind(2, kHeads);
  history.Reserve(1, rows);
  for (int64_t position = 0; position < rows; ++position) {
    if (!PageHistory::Notes(position)) continue;
    for (int head = 0; head < kHeads; ++head) Note(position, head, of_margin << head, &history);
  }
  return history;
}

float Margin(PageHistory* history, int head, int64_t position, double share) {
  return history->Margins(1, position, share)[head];
}

void TestMargins() {
  PageHistory history = Filled(600, 6554);  // a tenth, a fifth, two fifths at the least margin
  for (int head = 0; head < kHeads; ++head) {
    CHECK(Margin(&history, head, 256, 0.9) == kMargins[0]);
    CHECK(Margin(&history, head, 512, 0.066) == kMargins[1 + head]);  // 32 * 0.05 and a half are 32 * 0.0656
    CHECK(Margin(&history, head, 512, 0.041) == kMargins[2 + head]);  // 32 * 0.025 and a half are 32 * 0.0406
    CHECK(std::isinf(Margin(&history, head, 512, 1e-9)));
    CHECK(std::isinf(Margin(&history, head, 8, 0.9)));      // no notes
    CHECK(std::isinf(history.Margins(0, 512, 0.9)[head]));  // a layer that noted nothing
  }
}

// Few rows that lost nothing prove little.
void TestFewNotes() {
  PageHistory history = Filled(600, 0);
  CHECK(std::isinf(Margin(&history, 0, 512, 0.0155)));
  CHECK(Margin(&history, 0, 512, 0.0157) == kMargins[0]);  // half a row of 32
}

void TestOnlyTheLatestCount() {
  PageHistory history = Filled(5100, 65534);
  for (int64_t position = 920; position < 5100; position += 16) Note(position, 0, 0, &history);  // 8 modulo 16
  CHECK(Margin(&history, 0, 4992, 0.0022) > kMargins[0]);  // reaches back to the note at 904
  CHECK(Margin(&history, 0, 5008, 0.0022) == kMargins[0]);
  CHECK(Margin(&history, 1, 5008, 0.0022) == kMargins[13]);  // 256 * 2^-12 of another head, and a half: 256 * 0.0022
}

void TestRewinding() {
  PageHistory history = Filled(600, 6554);
  const int64_t bytes = history.bytes();
  CHECK(bytes == 37 * kHeads * kNumMargins * 2);
  history.Truncate(1, 264);  // the row at 264 is gone
  CHECK(history.bytes() == 16 * kHeads * kNumMargins * 2);
  CHECK(Margin(&history, 0, 512, 0.1325) == kMargins[0]);  // 16 notes: 16 * 0.1 and a half are 16 * 0.13125
  history.Truncate(1, 248);
  CHECK(Margin(&history, 0, 512, 0.1325) == kMargins[1]);  // 15 notes: 15 * 0.13333
  history.Truncate(1, 8);
  CHECK(std::isinf(Margin(&history, 0, 512, 0.9)));
  history.Reserve(1, 600);  // room, but nothing noted
  CHECK(std::isinf(Margin(&history, 0, 512, 0.9)) && history.bytes() == bytes);
  Note(5000, 0, 1, &history);  // behind the room: not noted, not written
}

}  // namespace

int main() {
  TestMargins();
  TestFewNotes();
  TestOnlyTheLatestCount();
  TestRewinding();
  return Finish();
}
