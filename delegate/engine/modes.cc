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

// What a mode does without, it leaves null. The last four exist to be compared with.
// clang-format off
constexpr ModeTraits kModes[] = {
    // name          needs   selects by thres- graph   page    rows per tile      pairs worth
    //               a plan          hold      scores  tiles                      sharing
    {"shadow",         true,  true,  true,  true,  false, kMaxTileRows,      1 << 16,
     {}, nullptr, RunThresholdTile},
    {"dense",          false, false, false, false, false, kMaxDenseTileRows, 1 << 14,
     {}, nullptr, RunDenseTile},
    {"int8",           true,  false, false, false, false, kMaxTileRows,      1 << 15,
     {Int8ValuesBytes, MakeInt8Values}, nullptr, RunInt8Tile},
    {"shadow_paper",   true,  true,  false, true,  false, kMaxTileRows,      1 << 15,
     {}, nullptr, SHADOW_BASELINE(RunTopKTile)},
    {"float_estimate", true,  true,  false, false, false, kMaxTileRows,      1 << 15,
     {}, nullptr, SHADOW_BASELINE(RunFloatTopKTile)},
    {"block_sparse",   true,  true,  false, false, true,  kMaxTileRows,      1 << 15,
     {SHADOW_BASELINE(KeySumBytes), SHADOW_BASELINE(MakeKeySum)}, nullptr, SHADOW_BASELINE(RunBlockTile)},
    {"npu_full",       true,  false, false, false, false, kMaxTileRows,      1 << 15,
     {SHADOW_BASELINE(NpuPageBytes), SHADOW_BASELINE(MakeNpuPage)}, SHADOW_BASELINE(CheckStaticRanges),
     SHADOW_BASELINE(RunNpuTile)},
};
// clang-format on
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
