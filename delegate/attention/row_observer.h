// Puts the rows of one tile into the job's Observer (observe/observer.h): what they select at which threshold, and by
// how much their outputs are off then.
#ifndef SHADOWATTN_DELEGATE_ATTENTION_ROW_OBSERVER_H_
#define SHADOWATTN_DELEGATE_ATTENTION_ROW_OBSERVER_H_

#include <cstdint>

#include "attention/attention_job.h"
#include "attention/scratch.h"
#include "attention/tile_rows.h"

namespace shadow {

// Does nothing where the job has no observer, or one that was asked for something else.
class RowObserver {
 public:
  explicit RowObserver(const TileRows& rows) : rows_(rows) {}

  // The weights of a row's positions, of which those below `sinks` and from `always_from` on are selected in any case:
  // all pages as blocks, the last one first; their sums by page and in total, without the sinks (docs/op_spec.md,
  // select).
  struct Weights {
    const float* blocks;
    const int32_t* pages;
    int count;
    const float* sums;
    int64_t sum_stride;
    int sinks;
    int always_from;
    float mass;
  };

  // Row r of mode shadow, scored by the op itself.
  void Softmaxed(int64_t r, const Weights& w);
  // Row r, and the k positions that it selects.
  void Selected(int64_t r, const int32_t* positions, int k);
  // All rows of the tile, once their outputs are written.
  void Finished();

 private:
  const AttentionJob& job() const { return rows_.job(); }
  Observer* observer() const { return job().observer; }
  bool wants(uint32_t flag) const { return observer() != nullptr && observer()->wants(flag); }
  Observer::Place Place(int64_t r) const { return {job().chunk().layer, rows_.Head(r), rows_.Causal(r)}; }
  const float* Ascending(const Weights& w);
  void Errors(int64_t r, const Weights& w);
  const float* Attend(int rows, int n, int64_t stride);
  const float* ExactScores(int64_t r);
  float LargestProduct();

  const TileRows& rows_;
  Scratch own_;  // the tile's is in use
};

// Observes the largest magnitude of new rows of k or v (kRangeK, kRangeV), of which no tile knows.
void ObserveRows(const float* values, int64_t count, ObservedRange which, const AttentionJob& job);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ATTENTION_ROW_OBSERVER_H_
