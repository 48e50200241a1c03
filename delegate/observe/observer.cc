#include "observe/observer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace shadow {
namespace {

constexpr int kShortestOctave = 6;  // 64 positions
constexpr uint32_t kSqrt2Mantissa = 0x3504F3;

// b where probability is in [2^(-(b + 1) / 2), 2^(-b / 2)), clamped to the bins there are.
int Bin(float probability) {
  uint32_t bits;
  std::memcpy(&bits, &probability, sizeof(bits));
  const int exponent = int(bits >> 23) - 127;
  const bool upper = (bits & 0x7FFFFF) > kSqrt2Mantissa;  // at least sqrt 2, which no float is
  return std::clamp(-2 * exponent - (upper ? 2 : 1), 0, kObservedBins - 1);
}

}  // namespace

int ObservedOctave(int64_t causal) {
  int octave = 0;
  while (octave + 1 < kObservedOctaves && causal >> (kShortestOctave + octave + 1) != 0) ++octave;
  return octave;
}

float ObservedThreshold(int index) { return std::exp2(-2.0f - 0.5f * float(index)); }

void Observer::Start(uint32_t what) {
  Reset();
  what_ = what;
}

void Observer::Reset() {
  std::lock_guard<std::mutex> lock(mutex_);
  for (Table& table : tables_) std::fill(table.sums.begin(), table.sums.end(), 0.0);
}

void Observer::Bind(const OpOptions& op) {
  std::lock_guard<std::mutex> lock(mutex_);
  num_layers_ = op.num_layers;
  num_heads_ = op.num_heads;
  for (Table& table : tables_) table.sums.resize(size_t(Count(table)));
}

int64_t Observer::Count(const Table& table) const {
  return int64_t{num_layers_} * (table.per_head ? num_heads_ : 1) * table.width;
}

double* Observer::At(Name name, const Place& place) {
  Table& table = tables_[name];
  const int64_t row = table.per_head ? int64_t{place.layer} * num_heads_ + place.head : place.layer;
  return table.sums.data() + row * table.width;
}

void Observer::AddHistogram(const Place& place, const float* weights, int sinks, int free_end, float mass) {
  int32_t counts[kObservedBins] = {};
  const float inverse = 1.0f / mass;
  for (int j = sinks; j < free_end; ++j) ++counts[Bin(weights[j] * inverse)];
  const int octave = ObservedOctave(place.causal);
  std::lock_guard<std::mutex> lock(mutex_);
  double* sums = At(kHistogram, place) + octave * kObservedBins;
  for (int b = 0; b < kObservedBins; ++b) sums[b] += counts[b];
  At(kRows, place)[octave] += 1;
}

void Observer::AddErrors(const Place& place, const double* errors, double norm) {
  const int octave = ObservedOctave(place.causal);
  std::lock_guard<std::mutex> lock(mutex_);
  double* sums = At(kErrors, place) + octave * kObservedThresholds;
  for (int i = 0; i < kObservedThresholds; ++i) sums[i] += errors[i];
  At(kNorms, place)[octave] += norm;
  At(kErrorRows, place)[octave] += 1;
}

void Observer::AddHead(const Place& place, double selected, double mass, double recall) {
  std::lock_guard<std::mutex> lock(mutex_);
  double* sums = At(kHeads, place);
  const double row[] = {1, selected, mass, recall};
  for (int i = 0; i < 4; ++i) sums[i] += row[i];
}

void Observer::AddRange(int layer, int which, float largest) {
  std::lock_guard<std::mutex> lock(mutex_);
  double& range = At(kRanges, {layer, 0, 0})[which];
  range = std::max(range, double(largest));
}

Status Observer::Read(const std::string& name, double* out, int64_t count) const {
  if (out == nullptr || count < 0) {
    return Status::Error("observed %s: wanted room for its numbers, got %s of %lld", name.c_str(),
                         out == nullptr ? "a null pointer" : "a pointer", static_cast<long long>(count));
  }
  std::lock_guard<std::mutex> lock(mutex_);
  std::string names;
  for (const Table& table : tables_) {
    names += std::string(names.empty() ? "" : ", ") + table.name;
    if (name != table.name) continue;
    if (num_layers_ == 0) {
      std::fill(out, out + count, 0.0);
      return Status::Ok();
    }
    if (count != Count(table)) {
      return Status::Error("observed %s has %lld numbers, wanted %lld; ask for as many", table.name,
                           static_cast<long long>(Count(table)), static_cast<long long>(count));
    }
    std::copy(table.sums.begin(), table.sums.end(), out);
    return Status::Ok();
  }
  return Status::Error("there is no table '%s'; wanted one of %s", name.c_str(), names.c_str());
}

}  // namespace shadow
