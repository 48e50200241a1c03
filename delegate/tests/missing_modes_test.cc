// The build without baselines (SHADOW_BASELINES off): their modes are refused by name, the others are there.
#include "engine/options.h"
#include "tests/check.h"

using namespace shadow;
using namespace shadow::testing;

int main() {
  for (const char* mode : {"shadow", "dense", "int8"}) {
    CacheSettings settings{DefaultMode()};
    CHECK_OK(ParseCacheSettings((std::string("mode=") + mode).c_str(), CacheStage::kInUse, &settings));
    CHECK(settings.mode->name == std::string(mode) && settings.mode->run != nullptr);
  }
  for (const char* mode : {"shadow_paper", "float_estimate", "block_sparse", "npu_full"}) {
    CacheSettings settings{DefaultMode()};
    CHECK_REFUSED(ParseCacheSettings((std::string("mode=") + mode).c_str(), CacheStage::kInUse, &settings),
                  std::string("mode ") + mode +
                      " is not in this build (CMake option SHADOW_BASELINES); use one of shadow, dense, int8");
    CHECK(settings.mode == &DefaultMode());
  }
  CacheSettings settings{DefaultMode()};
  CHECK_REFUSED(ParseCacheSettings("mode=fast", CacheStage::kInUse, &settings),
                "option mode must be one of shadow, dense, int8, got 'fast'");
  return Finish();
}
