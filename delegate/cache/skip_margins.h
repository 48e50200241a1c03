// Skip margins: how far below a row's best bound a page's bound may lie before the page is skipped. They are learnt
// head by head from the text itself: some rows score all their pages and leave a skip-loss sample, the mass that they
// would have lost at each margin (docs/op_spec.md, block skipping).
#ifndef SHADOWATTN_DELEGATE_CACHE_SKIP_MARGINS_H_
#define SHADOWATTN_DELEGATE_CACHE_SKIP_MARGINS_H_

#include <cstdint>
#include <vector>

namespace shadow {

inline constexpr float kSkipMargins[] = {4,    5, 5.5f, 6,  6.5f, 7,  7.5f, 8,  // logits
                                         8.5f, 9, 9.5f, 10, 11,   12, 14,   16};
inline constexpr int kNumSkipMargins = sizeof(kSkipMargins) / sizeof(kSkipMargins[0]);
// Rows of a block of positions have the same margins, from the samples of the blocks before it.
inline constexpr int64_t kMarginBlock = 256;

// Of one cache.
class SkipMargins {
 public:
  // Whether the row at `position` scores all its pages and leaves a sample.
  static bool IsSampled(int64_t position) { return position % kEvery == kEvery / 2; }

  void Bind(int layers, int heads);
  // Forgets the samples of rows from `position` on.
  void Truncate(int layer, int64_t position);
  // Makes room for the samples of rows up to `end`. Throws std::bad_alloc.
  void Reserve(int layer, int64_t end);
  // lost [kNumSkipMargins]: share of its mass that the row would have lost at each margin, in 65535ths. Different
  // threads may add those of different heads and positions.
  void AddSample(int layer, int64_t head, int64_t position, const uint16_t* lost);
  // [heads], for rows of the block that begins at `position`: the least margin at which the samples have lost at most
  // max_skipped_mass on average, together with half of one row's mass for what the samples have not met. Infinite where
  // there is no such margin, or too few samples. Valid until the next call for the layer.
  const float* MarginsAt(int layer, int64_t position, double max_skipped_mass);

  int64_t bytes() const;

 private:
  static constexpr int64_t kEvery = 16;
  static constexpr int64_t kSamplesBack = 256;  // no row looks further back
  // What rows without a sample may have lost: half of one row's mass, in 65535ths.
  static constexpr int64_t kUnsampledLoss = 32768;
  static constexpr uint16_t kNoSample = 65535;

  // Of rows before `position`.
  static int64_t Samples(int64_t position) { return (position + kEvery / 2 - 1) / kEvery; }
  int64_t PerSample() const { return int64_t{heads_} * kNumSkipMargins; }

  // The margins of a layer's latest block: a decode step mostly needs the same as the one before.
  struct Latest {
    int64_t position = -1;
    double max_skipped_mass = 0;
    std::vector<float> margins;
  };

  float MarginOf(int layer, int head, int64_t position, double max_skipped_mass) const;

  int heads_ = 0;
  std::vector<std::vector<uint16_t>> layers_;  // [layer][sample][head][margin]
  std::vector<Latest> latest_;                 // [layer]
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_CACHE_SKIP_MARGINS_H_
