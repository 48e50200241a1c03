// Names of ISA levels to flags and back, and the refusals.
#include <cstring>

#include "kernels/testing.h"

namespace shadow {
namespace {

void TestNames() {
  constexpr const char* kNames[] = {"scalar",    "avx2", "avx512",  "avx512vnni",
                                    "avx512amx", "neon", "neondot", "neoni8mm"};
  for (const char* name : kNames) {
    ArchFlags flags = ~ArchFlags{0};
    const char* message = nullptr;
    if (ArchFromName(name, &flags, &message)) {
      std::printf("  %-12s offered\n", name);
      SHADOW_CHECK(std::strcmp(ArchName(flags), name) == 0, "%s became %s", name, ArchName(flags));
      SHADOW_CHECK((flags & ~DetectArch()) == 0, "%s is more than this machine has", name);
    } else {
      std::printf("  %-12s refused: %s\n", name, message);
      SHADOW_CHECK(std::strstr(message, name) != nullptr && std::strstr(message, "scalar") != nullptr, "%s", message);
    }
  }
}

void TestAutoAndUnknown() {
  ArchFlags flags = 0;
  const char* message = nullptr;
  SHADOW_CHECK(ArchFromName("auto", &flags, &message) && flags == DetectArch(), "auto");
  SHADOW_CHECK(ArchFromName("scalar", &flags, &message) && flags == kArchScalar, "scalar");
  SHADOW_CHECK(!ArchFromName("sse9", &flags, &message) && std::strstr(message, "sse9") != nullptr, "unknown name");
}

}  // namespace
}  // namespace shadow

int main() {
  shadow::testing::Start("arch");
  shadow::TestNames();
  shadow::TestAutoAndUnknown();
  return shadow::testing::Finish();
}
