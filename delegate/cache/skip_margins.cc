#include "cache/skip_margins.h"

#include <algorithm>
#include <limits>

namespace shadow {

void SkipMargins::Bind(int layers, int heads) {
  heads_ = heads;
  layers_.resize(size_t(layers));
  latest_.resize(size_t(layers));
}

void SkipMargins::Truncate(int layer, int64_t position) {
  std::vector<uint16_t>& samples = layers_[layer];
  samples.resize(std::min(samples.size(), size_t(Samples(position) * PerSample())));
  if (position < latest_[layer].position) latest_[layer].position = -1;
}

void SkipMargins::Reserve(int layer, int64_t end) {
  layers_[layer].resize(size_t(Samples(end) * PerSample()), kNoSample);
}

void SkipMargins::AddSample(int layer, int64_t head, int64_t position, const uint16_t* lost) {
  std::vector<uint16_t>& samples = layers_[layer];
  const int64_t at = Samples(position) * PerSample() + head * kNumSkipMargins;
  if (at + kNumSkipMargins <= int64_t(samples.size())) std::copy_n(lost, kNumSkipMargins, samples.begin() + at);
}

const float* SkipMargins::MarginsAt(int layer, int64_t position, double max_skipped_mass) {
  Latest& latest = latest_[layer];
  if (latest.position != position || latest.max_skipped_mass != max_skipped_mass) {
    latest = {position, max_skipped_mass, std::vector<float>(size_t(heads_))};
    for (int head = 0; head < heads_; ++head) latest.margins[head] = MarginOf(layer, head, position, max_skipped_mass);
  }
  return latest.margins.data();
}

float SkipMargins::MarginOf(int layer, int head, int64_t position, double max_skipped_mass) const {
  const std::vector<uint16_t>& samples = layers_[layer];
  const int64_t last = std::min(Samples(position), int64_t(samples.size()) / PerSample());
  int64_t lost[kNumSkipMargins] = {}, found = 0;
  for (int64_t sample = std::max<int64_t>(0, last - kSamplesBack); sample < last; ++sample) {
    const uint16_t* of_row = samples.data() + sample * PerSample() + head * kNumSkipMargins;
    if (*of_row == kNoSample) continue;
    ++found;
    for (int i = 0; i < kNumSkipMargins; ++i) lost[i] += of_row[i];
  }
  const double most = max_skipped_mass * 65535 * double(found);
  for (int i = 0; i < kNumSkipMargins; ++i) {
    if (double(lost[i] + kUnsampledLoss) <= most) return kSkipMargins[i];
  }
  return std::numeric_limits<float>::infinity();
}

int64_t SkipMargins::bytes() const {
  int64_t bytes = 0;
  for (const std::vector<uint16_t>& samples : layers_) bytes += int64_t(samples.size() * sizeof(uint16_t));
  return bytes;
}

}  // namespace shadow
