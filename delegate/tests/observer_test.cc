// The observers against the op itself: an observed error is what a run at that threshold differs by, an observed count
// is what it selects.
#include "observe/observer.h"

#include <algorithm>
#include <cmath>

#include "tests/attention_bench.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

constexpr int64_t kLength = 300;
constexpr float kOnes[] = {1, 1, 1, 1};
constexpr int kAt = 8;  // of the ladder: 2^-6

OpOptions ThisOp() { return {0, 1, 4, 2, 24, 0.5f}; }

CacheSettings Settings(const std::string& text) { return MakeSettings(text + ";cache_type=f32"); }

struct Outcome {
  std::vector<float> out;
  Statistics statistics;
};

// The text in chunks of 70. observer: may be null. factors [H]: of the heads.
Outcome Run(const Text& text, const CacheSettings& settings, Observer* observer, int num_threads = 1,
            const float* factors = kOnes) {
  const OpOptions op = ThisOp();
  AttentionBench bench(op, settings, PlanBytes(op, 0.125f, 3.0f / 127), {DetectArch(), num_threads, factors, observer});
  Outcome outcome{bench.RunAll(text, 70), {}};
  outcome.statistics = bench.statistics;
  return outcome;
}

std::vector<double> Read(const Observer& observer, const char* name, int64_t count) {
  std::vector<double> values(count);
  CHECK_OK(observer.Read(name, values.data(), count));
  return values;
}

std::string AtThreshold(double threshold) { return "min_k=64;sinks=1;latest=4;threshold=" + std::to_string(threshold); }

void TestErrors(const Text& text, const std::string& more) {
  const OpOptions op = ThisOp();
  Observer observer;
  observer.Start(kObserveErrors);
  const Outcome all = Run(text, Settings("min_k=64;sinks=1;latest=4;threshold=1e-30" + more), &observer);
  const Outcome some = Run(text, Settings(AtThreshold(double(ObservedThreshold(kAt))) + more), nullptr);
  const int64_t per_head = kObservedOctaves * kObservedThresholds;
  const std::vector<double> errors = Read(observer, "errors", op.num_heads * per_head);
  const std::vector<double> rows = Read(observer, "error_rows", op.num_heads * kObservedOctaves);
  std::vector<double> wanted(op.num_heads * kObservedOctaves), count(wanted.size());
  for (int64_t n = 68; n <= kLength; n += 4) {
    for (int head = 0; head < op.num_heads; ++head) {
      const int64_t first = ((n - 1) * op.num_heads + head) * op.head_dim;
      double error = 0;
      for (int64_t c = first; c < first + op.head_dim; ++c) error += std::pow(double(all.out[c]) - some.out[c], 2);
      wanted[head * kObservedOctaves + ObservedOctave(n)] += error;
      count[head * kObservedOctaves + ObservedOctave(n)] += 1;
    }
  }
  CHECK(count == rows);
  double total = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    total += wanted[i];
    CHECK(std::fabs(errors[i * kObservedThresholds + kAt] - wanted[i]) <= 1e-3 * wanted[i] + 1e-9);
  }
  CHECK(total > 0);
}

void TestHistogram(const Text& text) {
  const OpOptions op = ThisOp();
  Observer observer;
  observer.Start(kObserveHistogram);
  const Outcome some = Run(text, Settings(AtThreshold(double(ObservedThreshold(kAt)))), &observer, 2);
  const std::vector<double> bins = Read(observer, "histogram", op.num_heads * kObservedOctaves * kObservedBins);
  const std::vector<double> rows = Read(observer, "rows", op.num_heads * kObservedOctaves);
  double selected = 0, pairs = 0, sparse_rows = 0;
  for (size_t i = 0; i < bins.size(); ++i) {
    pairs += bins[i];
    if (int(i % kObservedBins) < 4 + kAt) selected += bins[i];  // bin b begins at 2^(-(b + 1) / 2)
  }
  for (double count : rows) sparse_rows += count;
  CHECK(sparse_rows == double((kLength - 64) * op.num_heads));
  const double forced = 5 * sparse_rows;
  CHECK(pairs + forced == double(some.statistics.causal_rows - op.num_heads * 64 * 65 / 2));
  const double read = double(some.statistics.value_rows_read - op.num_heads * 64 * 65 / 2);
  CHECK(std::fabs(selected + forced - read) <= 2);  // a weight just at the threshold may round to the other side
}

void TestHeads(const Text& text) {
  const OpOptions op = ThisOp();
  for (const char* mode :
       {"threshold=1e-30", "mode=float_estimate;sinks=0;latest=1;keep_ratio=0.5", "threshold=0.02"}) {
    Observer observer;
    observer.Start(kObserveHeads);
    const Outcome outcome = Run(text, Settings(std::string("min_k=1;") + mode), &observer);
    const std::vector<double> heads = Read(observer, "heads", op.num_heads * 4);
    double selected = 0;
    for (int head = 0; head < op.num_heads; ++head) {
      const double rows = heads[head * 4];
      CHECK(rows == double(kLength - 1));
      for (int i = 1; i < 4; ++i) CHECK(heads[head * 4 + i] > 0 && heads[head * 4 + i] <= rows * (1 + 1e-6));
      if (mode[0] == 'm') CHECK(heads[head * 4 + 3] > 0.95 * rows);  // only the row's own position is forced
      if (mode == std::string("threshold=1e-30")) CHECK(std::fabs(heads[head * 4 + 2] - rows) < 1e-6 * rows);
      selected += heads[head * 4 + 1];
    }
    CHECK(selected > 0 && outcome.statistics.value_rows_read > 0);
  }
}

void TestRanges(const Text& text) {
  const OpOptions op = ThisOp();
  Observer observer;
  observer.Start(kObserveRanges);
  const Outcome dense = Run(text, Settings("mode=dense"), &observer, 2);
  const std::vector<double> ranges = Read(observer, "ranges", kObservedRanges);
  const auto largest = [](const std::vector<float>& values) {
    float most = 0;
    for (float value : values) most = std::max(most, std::fabs(value));
    return double(most);
  };
  CHECK(ranges[kRangeQ] == largest(text.q));
  CHECK(ranges[kRangeOut] == largest(dense.out));
  double most = 0;
  for (int64_t t = 0; t < kLength; ++t) {
    for (int head = 0; head < op.num_heads; ++head) {
      for (int64_t j = 0; j <= t; ++j) {
        double sum = 0;
        for (int c = 0; c < op.head_dim; ++c) {
          sum += double(text.q[(t * op.num_heads + head) * op.head_dim + c]) *
                 text.k[(j * op.num_kv_heads + head / op.group()) * op.head_dim + c];
        }
        most = std::max(most, std::fabs(sum));
      }
    }
  }
  CHECK(std::fabs(ranges[kRangeScore] - most) < 1e-5 * most);
}

void TestNothingChanges(const Text& text) {
  const CacheSettings settings = Settings("threshold=0.01");
  Observer observer;
  observer.Start(kObserveAll);
  CHECK(Run(text, settings, &observer).out == Run(text, settings, nullptr).out);
  const std::vector<double> one = Read(observer, "errors", 4 * kObservedOctaves * kObservedThresholds);
  observer.Reset();
  CHECK(Read(observer, "norms", 4 * kObservedOctaves)[0] == 0);
  Run(text, settings, &observer, 3);
  const std::vector<double> other = Read(observer, "errors", 4 * kObservedOctaves * kObservedThresholds);
  for (size_t i = 0; i < one.size(); ++i) CHECK(std::fabs(one[i] - other[i]) <= 1e-9 * one[i] + 1e-15);
}

void TestAblatedHeads(const Text& text) {
  const OpOptions op = ThisOp();
  const float factors[] = {1, INFINITY, 0, 1};
  const std::vector<float> out = Run(text, Settings("threshold=0.01"), nullptr, 1, factors).out;
  for (int64_t t = 0; t < kLength; ++t) {
    for (int head = 0; head < op.num_heads; ++head) {
      const float* row = out.data() + (t * op.num_heads + head) * op.head_dim;
      const bool zero = std::all_of(row, row + op.head_dim, [](float x) { return x == 0; });
      CHECK(zero == (head == 1));
    }
  }
}

void TestRead() {
  Observer observer;
  double numbers[8] = {1, 1, 1, 1, 1, 1, 1, 1};
  CHECK_OK(observer.Read("heads", numbers, 8));  // before any op: nothing was seen
  CHECK(numbers[7] == 0);
  observer.Bind(ThisOp());
  CHECK_REFUSED(observer.Read("heads", numbers, 8), "observed heads has 16 numbers, wanted 8");
  CHECK_REFUSED(observer.Read("head", numbers, 8), "there is no table 'head'; wanted one of histogram");
  CHECK_REFUSED(observer.Read("heads", nullptr, 16), "got a null pointer of 16");
  CHECK_REFUSED(observer.Read("heads", numbers, -1), "got a pointer of -1");
  CHECK(ObservedOctave(1) == 0 && ObservedOctave(127) == 0 && ObservedOctave(128) == 1 &&
        ObservedOctave(1 << 20) == 10);
}

}  // namespace

int main() {
  std::mt19937 generator(Seed());
  const OpOptions op = ThisOp();
  const Text text = RandomText(op, kLength, &generator);
  TestErrors(text, "");
  TestErrors(text, ";compensate=off");
  TestHistogram(text);
  TestHeads(text);
  TestRanges(text);
  TestNothingChanges(text);
  TestAblatedHeads(text);
  TestRead();
  return Finish();
}
