#include "engine/modes.h"

#include "attention/dense_tile.h"
#include "attention/int8_tile.h"
#include "attention/threshold_tile.h"

#if SHADOW_BASELINES
#include "baselines/block_tile.h"
#include "baselines/npu_tile.h"
#include "baselines/top_k_tile.h"
#define SHADOW_BASELINE(function) function
#else
#define SHADOW_BASELINE(function) nullptr
#endif

namespace shadow {
namespace {

constexpr ModeTraits Shadow() {
  ModeTraits m;
  m.name = "shadow";
  m.selects = m.by_threshold = m.reads_graph_scores = true;
  m.max_tile_rows = kMaxTileRows;
  m.pairs_worth_sharing = 1 << 16;
  m.run = RunThresholdTile;
  return m;
}

constexpr ModeTraits Dense() {
  ModeTraits m;
  m.name = "dense";
  m.needs_plan = false;
  m.max_tile_rows = kMaxDenseTileRows;
  m.pairs_worth_sharing = 1 << 14;
  m.run = RunDenseTile;
  return m;
}

constexpr ModeTraits Int8() {
  ModeTraits m;
  m.name = "int8";
  m.max_tile_rows = kMaxTileRows;
  m.pairs_worth_sharing = 1 << 15;
  m.derived_page_bytes = Int8ValuesBytes;
  m.derive_page = MakeInt8Values;
  m.run = RunInt8Tile;
  return m;
}

// What the modes below have in common. They exist to be compared with.
constexpr ModeTraits Baseline(const char* name, bool selects) {
  ModeTraits m;
  m.name = name;
  m.selects = selects;
  m.max_tile_rows = kMaxTileRows;
  m.pairs_worth_sharing = 1 << 15;
  return m;
}

constexpr ModeTraits ShadowPaper() {
  ModeTraits m = Baseline("shadow_paper", true);
  m.reads_graph_scores = true;
  m.run = SHADOW_BASELINE(RunTopKTile);
  return m;
}

constexpr ModeTraits FloatEstimate() {
  ModeTraits m = Baseline("float_estimate", true);
  m.run = SHADOW_BASELINE(RunFloatTopKTile);
  return m;
}

constexpr ModeTraits BlockSparse() {
  ModeTraits m = Baseline("block_sparse", true);
  m.page_tiles = true;
  m.derived_page_bytes = SHADOW_BASELINE(KeySumBytes);
  m.derive_page = SHADOW_BASELINE(MakeKeySum);
  m.run = SHADOW_BASELINE(RunBlockTile);
  return m;
}

constexpr ModeTraits NpuFull() {
  ModeTraits m = Baseline("npu_full", false);
  m.derived_page_bytes = SHADOW_BASELINE(NpuPageBytes);
  m.derive_page = SHADOW_BASELINE(MakeNpuPage);
  m.check_plan = SHADOW_BASELINE(CheckStaticRanges);
  m.run = SHADOW_BASELINE(RunNpuTile);
  return m;
}

constexpr ModeTraits kModes[] = {Shadow(), Dense(), Int8(), ShadowPaper(), FloatEstimate(), BlockSparse(), NpuFull()};
constexpr const ModeTraits& kShadow = kModes[0];
constexpr const ModeTraits& kDense = kModes[1];

std::string NamesInThisBuild() {
  std::string names;
  for (const ModeTraits& mode : kModes) {
    if (mode.run != nullptr) names += std::string(names.empty() ? "" : ", ") + mode.name;
  }
  return names;
}

}  // namespace

Status FindMode(const std::string& name, const ModeTraits** mode) {
  for (const ModeTraits& candidate : kModes) {
    if (name != candidate.name) continue;
    if (candidate.run == nullptr) {
      return Status::Error("mode %s is not in this build (CMake option SHADOW_BASELINES); use one of %s", name.c_str(),
                           NamesInThisBuild().c_str());
    }
    *mode = &candidate;
    return Status::Ok();
  }
  return Status::Error("option mode must be one of %s, got '%s'", NamesInThisBuild().c_str(), name.c_str());
}

const ModeTraits& DefaultMode() { return kShadow; }

const ModeTraits& RunningMode(const CacheSettings& settings) {
  return settings.selects_all() ? kDense : *settings.mode;
}

}  // namespace shadow
