// What the rest of the delegate knows of a mode: one row of the table in engine/modes.cc.
#ifndef SHADOWATTN_DELEGATE_CONFIG_MODE_H_
#define SHADOWATTN_DELEGATE_CONFIG_MODE_H_

#include <cstddef>
#include <cstdint>

#include "base/status.h"

namespace shadow {

class Plan;
class TileRows;
struct AttentionJob;
struct Scratch;
struct Statistics;

// docs/op_spec.md (modes) says what each of them computes.
struct ModeTraits {
  const char* name = nullptr;
  bool needs_plan = true;
  // Leaves positions out. Rows up to min_k attend to all positions, and at keep_ratio 1 all rows do, as in mode dense.
  bool selects = false;
  // Selects by a threshold of probability, so that threshold factors and block skipping apply.
  bool by_threshold = false;
  // The scores of an estimate graph can take the place of the op's own.
  bool reads_graph_scores = false;
  // A tile is a block of queries: the chunk's positions in one page.
  bool page_tiles = false;
  int64_t max_tile_rows = 0;
  // Pairs (row, position): with fewer, waking another thread costs more than it saves.
  int64_t pairs_worth_sharing = 0;

  // What the mode derives from a full page (cache/derived_pages.h): bytes for a KV head, and how to make it. Null:
  // nothing.
  size_t (*derived_page_bytes)(int head_dim) = nullptr;
  void (*derive_page)(const AttentionJob& job, int kv_head, int64_t page, uint8_t* memory, Scratch* scratch) = nullptr;
  // Refuses a plan without the numbers that the mode needs of a layer. Null: it needs no more than any mode.
  Status (*check_plan)(const Plan& plan, int layer) = nullptr;
  // Computes the rows of a tile from `first` on. Null: this build does not have the mode.
  void (*run)(const TileRows& rows, int64_t first, Scratch* scratch, Statistics* statistics) = nullptr;
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_CONFIG_MODE_H_
