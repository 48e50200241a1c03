// Rows of a tile with the positions that each has selected, their weights, and the sum of their values.
#ifndef SHADOWATTN_DELEGATE_ATTENTION_SELECTED_ROWS_H_
#define SHADOWATTN_DELEGATE_ATTENTION_SELECTED_ROWS_H_

#include <cstdint>

#include "attention/scratch.h"
#include "attention/tile_rows.h"
#include "cache/statistics.h"

namespace shadow {

// Rows [first, rows.count()); i counts from the first of them.
class SelectedRows {
 public:
  // most: no row selects more positions.
  SelectedRows(const TileRows& rows, int64_t first, int64_t most, Scratch* scratch);

  int64_t count() const { return count_; }
  int64_t stride() const { return stride_; }  // of positions and of weights
  int32_t* positions(int64_t i) const { return scratch_->selected.data() + i * stride_; }
  float* weights(int64_t i) const { return scratch_->weights.data() + i * stride_; }
  int32_t& size(int64_t i) const { return scratch_->counts.data()[i]; }           // positions that the row selected
  float& factor(int64_t i) const { return scratch_->factor.data()[i]; }           // of the sum of its values
  float* start(int64_t i) const { return scratch_->start.data() + i * padded_; }  // what the sum begins with: zeros

  // The weights of exact logits, relative to the row's best; returns their sums [count].
  const float* ComputeExactWeights();
  // For the kernel add_values: no more than the selected positions.
  ValueTile Tile() const;

  void Count(Statistics* statistics) const;

 private:
  Selection selection() const { return {scratch_->selected.data(), stride_, scratch_->counts.data(), int(count_)}; }

  const TileRows& rows_;
  const int64_t first_;
  const int64_t count_;
  const int64_t padded_;
  const int64_t stride_;
  Scratch* const scratch_;
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ATTENTION_SELECTED_ROWS_H_
