// The modes that there are.
#ifndef SHADOWATTN_DELEGATE_ENGINE_MODES_H_
#define SHADOWATTN_DELEGATE_ENGINE_MODES_H_

#include <string>

#include "base/status.h"
#include "config/mode.h"
#include "config/settings.h"

namespace shadow {

// Refuses an unknown name, and a mode that this build does not have (CMake option SHADOW_BASELINES).
Status FindMode(const std::string& name, const ModeTraits** mode);

const ModeTraits& DefaultMode();
// The mode by which rows run: the cache's, or dense where that selects all positions.
const ModeTraits& RunningMode(const CacheSettings& settings);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ENGINE_MODES_H_
