// How far below a row's best bound a page may lie and still need scoring, learnt head by head from the text itself: a
// few rows score all their pages and note what they would have lost (docs/op_spec.md, pages that are not scored).
#ifndef SHADOWATTN_DELEGATE_CACHE_SKIP_MARGINS_H_
#define SHADOWATTN_DELEGATE_CACHE_SKIP_MARGINS_H_

#include <cstdint>
#include <vector>

namespace shadow {

inline constexpr float kSkipMargins[] = {4,    5, 5.5f, 6,  6.5f, 7,  7.5f, 8,  // logits
                                         8.5f, 9, 9.5f, 10, 11,   12, 14,   16};
inline constexpr int kNumSkipMargins = sizeof(kSkipMargins) / sizeof(kSkipMargins[0]);
// Rows of a block of positions have the same margins, from what the blocks before it noted.
inline constexpr int64_t kMarginBlock = 256;

// Of one cache.
class SkipMargins {
 public:
  // Whether the row at `position` scores all its pages.
  static bool IsSampled(int64_t position) { return position % kEvery == kEvery / 2; }

  void Bind(int layers, int heads);
  // Forgets what rows from `position` on noted.
  void Truncate(int layer, int64_t position);
  // Makes room for rows up to `end`, which have noted nothing. Throws std::bad_alloc.
  void Reserve(int layer, int64_t end);
  // lost [kNumSkipMargins]: share of its mass that the row would have lost at each margin, in 65535ths. Different heads
  // and positions may be noted at the same time.
  void AddSample(int layer, int64_t head, int64_t position, const uint16_t* lost);
  // [heads], for rows of the block that begins at `position`: the least margin at which at most `share` of the mass was
  // lost on average, and half of one row's besides: what the few that noted did not meet. Infinite where none was, or
  // too few rows have noted anything. Good until the next call for the layer.
  const float* MarginsAt(int layer, int64_t position, double share);

  int64_t bytes() const;

 private:
  static constexpr int64_t kEvery = 16;
  static constexpr int64_t kSamplesBack = 256;  // no row looks further back
  // What may have been lost by rows that were not noted: half of one row's mass, in 65535ths.
  static constexpr int64_t kUnsampledLoss = 32768;
  static constexpr uint16_t kNothing = 65535;

  // Of rows before `position`.
  static int64_t Samples(int64_t position) { return (position + kEvery / 2 - 1) / kEvery; }
  int64_t PerSample() const { return int64_t{heads_} * kNumSkipMargins; }

  // The margins of a layer's latest block: a decode step needs the same as the one before.
  struct Latest {
    int64_t position = -1;
    double share = 0;
    std::vector<float> margins;
  };

  float MarginOf(int layer, int head, int64_t position, double share) const;

  int heads_ = 0;
  std::vector<std::vector<uint16_t>> layers_;  // [layer][sample][head][margin]
  std::vector<Latest> latest_;                 // [layer]
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_CACHE_SKIP_MARGINS_H_
