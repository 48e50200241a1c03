// Working memory of one thread, which goes from one chunk to the next.
#ifndef SHADOWATTN_DELEGATE_ATTENTION_SCRATCH_H_
#define SHADOWATTN_DELEGATE_ATTENTION_SCRATCH_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "attention/graph_row.h"
#include "base/aligned_buffer.h"
#include "kernels/softmax/softmax.h"

namespace shadow {

struct Scratch {
  AlignedBuffer<float> q;                             // padded query rows of a tile
  AlignedBuffer<int8_t> q_i8;                         // the same rows, quantised
  AlignedBuffer<int8_t> q_split;                      // the same rows: positive elements, then negative ones
  AlignedBuffer<int32_t> at;                          // those of them that score a page
  AlignedBuffer<int32_t> bounds;                      // [rows][pages]
  AlignedBuffer<uint64_t> scored;                     // [rows][words]: sets of pages
  AlignedBuffer<uint64_t> scorers;                    // [pages]: sets of rows
  AlignedBuffer<int32_t> q_sum;                       // sums of the quantised rows
  AlignedBuffer<float> step;                          // their steps: logits per unit of the score
  AlignedBuffer<int32_t> scores;                      // [rows][stride]; in modes with softmax weights, blocks of these
  AlignedBuffer<int32_t> page_scores;                 // [rows][64]
  AlignedBuffer<GraphRow> graph_rows;                 // [rows]
  AlignedBuffer<SoftmaxRow<int32_t>> softmax_rows;    // [rows]
  AlignedBuffer<SoftmaxRow<int8_t>> softmax_rows_i8;  // [rows]
  AlignedBuffer<int8_t> page_scores_i8;               // [rows][64]
  AlignedBuffer<int32_t> visible;                     // [rows]: how many positions of a page
  AlignedBuffer<int64_t> lengths;                     // [rows]
  AlignedBuffer<int32_t> blocks;                      // [rows]: how many pages are listed,
  AlignedBuffer<int32_t> listed;                      // [rows][pages + 1]: and which
  AlignedBuffer<float> thresholds;                    // [rows]
  AlignedBuffer<float> sums;                          // [pages][rows]: weights of a page, added up
  AlignedBuffer<float> mass;                          // [rows]
  AlignedBuffer<int32_t> select;                      // of the select kernels
  AlignedBuffer<int32_t> selected;                    // [rows][stride]
  AlignedBuffer<float> weights;                       // [rows][stride], of the selected
  AlignedBuffer<float> selected_residual;             // [rows][stride]: parts of the selected in the residual
  AlignedBuffer<float> page_residual;                 // [pages][rows]: part of each position of a page
  AlignedBuffer<float> residual_mass;                 // [rows]: mass of what is not selected
  AlignedBuffer<float> page_sums;                     // [pages][PaddedFloats(d)]
  AlignedBuffer<float> prefix;         // [times][PaddedFloats(d)]: sums of a row's own page up to its position
  AlignedBuffer<float> start;          // [rows][PaddedFloats(d)]
  AlignedBuffer<float> factor;         // [rows]
  AlignedBuffer<float> attend;         // of the attend kernels
  AlignedBuffer<int32_t> counts;       // [rows]: causal lengths, or k
  AlignedBuffer<int8_t> weights_i8;    // [pages][rows][64], uint7
  AlignedBuffer<int32_t> weight_sums;  // [pages][rows]
  AlignedBuffer<float> weight_steps;   // [pages][rows]
  AlignedBuffer<int32_t> products;     // [rows][64]: weights times the INT8 values of a page
  AlignedBuffer<int32_t> value_sums;   // [rows][channels]: products, added up
  AlignedBuffer<int32_t> npu_scores;   // [rows][stride]
  AlignedBuffer<int8_t> logits;        // of one row
  AlignedBuffer<uint8_t> open_page;    // what is derived of a page that is not full
  AlignedBuffer<double> block_scores;  // [pages]
  AlignedBuffer<KvPage> pages;         // that a block of queries selects
  AlignedBuffer<float*> out;           // [rows]
  AlignedBuffer<int8_t> key;           // one INT8 key
};

// The scratches that no thread uses at the moment. Without a lock, so that a forked child finds none taken by a thread
// that does not exist there.
class ScratchStore {
 public:
  ScratchStore() = default;
  ScratchStore(const ScratchStore&) = delete;
  ScratchStore& operator=(const ScratchStore&) = delete;
  ~ScratchStore();

 private:
  friend class ScratchLease;
  static constexpr int kSlots = 64;  // more threads than that lose theirs
  std::atomic<Scratch*> idle_[kSlots] = {};
};

// A scratch of one thread for as long as it lives. Throws std::bad_alloc.
class ScratchLease {
 public:
  explicit ScratchLease(ScratchStore* store);
  ~ScratchLease();
  ScratchLease(const ScratchLease&) = delete;
  ScratchLease& operator=(const ScratchLease&) = delete;
  Scratch* get() const { return scratch_.get(); }

 private:
  ScratchStore* const store_;
  std::unique_ptr<Scratch> scratch_;
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ATTENTION_SCRATCH_H_
