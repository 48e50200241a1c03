#include "page_history.h"

#include <algorithm>
#include <limits>

namespace shadow {

void PageHistory::Bind(int layers, int heads) {
  heads_ = heads;
  layers_.resize(size_t(layers));
  latest_.resize(size_t(layers));
}

void PageHistory::Truncate(int layer, int64_t position) {
  std::vector<uint16_t>& notes = layers_[layer];
  notes.resize(std::min(notes.size(), size_t(Samples(position) * PerSample())));
  if (position < latest_[layer].position) latest_[layer].position = -1;
}

void PageHistory::Reserve(int layer, int64_t end) {
  layers_[layer].resize(size_t(Samples(end) * PerSample()), kNothing);
}

void PageHistory::Note(int layer, int64_t head, int64_t position, const uint16_t* lost) {
  std::vector<uint16_t>& notes = layers_[layer];
  const int64_t at = Samples(position) * PerSample() + head * kNumMargins;
  if (at + kNumMargins <= int64_t(notes.size())) std::copy_n(lost, kNumMargins, notes.begin() + at);
}

const float* PageHistory::Margins(int layer, int64_t position, double share) {
  Latest& latest = latest_[layer];
  if (latest.position != position || latest.share != share) {
    latest = {position, share, std::vector<float>(size_t(heads_))};
    for (int head = 0; head < heads_; ++head) latest.margins[head] = Margin(layer, head, position, share);
  }
  return latest.margins.data();
}

float PageHistory::Margin(int layer, int head, int64_t position, double share) const {
  const std::vector<uint16_t>& notes = layers_[layer];
  const int64_t last = std::min(Samples(position), int64_t(notes.size()) / PerSample());
  int64_t lost[kNumMargins] = {}, rows = 0;
  for (int64_t sample = std::max<int64_t>(0, last - kSamplesBack); sample < last; ++sample) {
    const uint16_t* of_row = notes.data() + sample * PerSample() + head * kNumMargins;
    if (*of_row == kNothing) continue;
    ++rows;
    for (int i = 0; i < kNumMargins; ++i) lost[i] += of_row[i];
  }
  const double most = share * 65535 * double(rows);
  for (int i = 0; i < kNumMargins; ++i) {
    if (double(lost[i] + kUnseen) <= most) return kMargins[i];
  }
  return std::numeric_limits<float>::infinity();
}

int64_t PageHistory::bytes() const {
  int64_t bytes = 0;
  for (const std::vector<uint16_t>& notes : layers_) bytes += int64_t(notes.size() * sizeof(uint16_t));
  return bytes;
}

}  // namespace shadow
