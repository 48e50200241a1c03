#include "kernels/arch.h"

#include <cstdio>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace shadow {
namespace {

struct Level {
  const char* name;
  ArchFlags flags;         // this level and all below it
  ArchFlags optional = 0;  // added where the machine has them
};

constexpr Level kLevels[] = {
    {"avx512amx", kArchAvx2 | kArchAvx512 | kArchAvx512Vnni | kArchAvx512Amx, kArchAvx512Vbmi2 | kArchAvx512Fp16},
    {"avx512vnni", kArchAvx2 | kArchAvx512 | kArchAvx512Vnni, kArchAvx512Vbmi2 | kArchAvx512Fp16},
    {"avx512", kArchAvx2 | kArchAvx512},
    {"avx2", kArchAvx2},
    {"neoni8mm", kArchNeon | kArchNeonDot | kArchNeonI8mm, kArchNeonFp16},
    {"neondot", kArchNeon | kArchNeonDot, kArchNeonFp16},
    {"neon", kArchNeon},
    {"scalar", kArchScalar},
};

#if defined(__x86_64__)
constexpr uint64_t kYmmState = 0x6;       // XMM, upper 128 bits of YMM
constexpr uint64_t kZmmState = 0xe6;      // kYmmState, mask registers, upper 256 bits of ZMM 0-15, ZMM 16-31
constexpr uint64_t kTileState = 0x60000;  // tile configuration, tile data
constexpr uint32_t kFp16 = 1u << 23, kAmxTile = 1u << 24, kAmxInt8 = 1u << 25;  // leaf 7, EDX; not in old headers

struct Cpuid {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  Cpuid(uint32_t leaf, uint32_t subleaf) { __get_cpuid_count(leaf, subleaf, &eax, &ebx, &ecx, &edx); }
};

// The register files that the operating system saves on a context switch. Inline assembly, because the intrinsic needs
// -mxsave.
uint64_t SavedState() {
  uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
}

bool HasAll(uint32_t word, uint32_t bits) { return (word & bits) == bits; }

// Tile data are 8 KB, which Linux saves only for processes that ask for it. Linux or a sandbox may refuse.
bool MayUseTiles() {
#if defined(SHADOW_HAS_AMX) && defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

ArchFlags Detect() {
  const Cpuid basic(1, 0);
  if (!HasAll(basic.ecx, bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C | bit_POPCNT)) return kArchScalar;
  const Cpuid extended(7, 0);
  const uint64_t saved = SavedState();
  if ((saved & kYmmState) != kYmmState || !HasAll(extended.ebx, bit_AVX2)) return kArchScalar;
  ArchFlags flags = kArchAvx2;
  if ((saved & kZmmState) != kZmmState) return flags;
  if (!HasAll(extended.ebx, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL)) return flags;
  flags |= kArchAvx512;
  if (HasAll(extended.ecx, bit_AVX512VBMI2)) flags |= kArchAvx512Vbmi2;
  if (HasAll(extended.edx, kFp16)) flags |= kArchAvx512Fp16;
  if (!HasAll(extended.ecx, bit_AVX512VNNI)) return flags;
  flags |= kArchAvx512Vnni;
  const bool has_tiles = HasAll(extended.edx, kAmxTile | kAmxInt8) && (saved & kTileState) == kTileState;
  return has_tiles && MayUseTiles() ? flags | kArchAvx512Amx : flags;
}
#elif defined(__aarch64__) && defined(__linux__)
ArchFlags Detect() {
  constexpr unsigned long kAsimdHp = 1ul << 10, kAsimdDp = 1ul << 20;  // HWCAP_..., not in old headers
  constexpr unsigned long kI8mm = 1ul << 13;                           // HWCAP2_...
  const unsigned long words = getauxval(AT_HWCAP);
  ArchFlags flags = kArchNeon;
  if ((words & kAsimdHp) != 0) flags |= kArchNeonFp16;
  if ((words & kAsimdDp) == 0) return flags;
  flags |= kArchNeonDot;
  return (getauxval(AT_HWCAP2) & kI8mm) != 0 ? flags | kArchNeonI8mm : flags;
}
#elif defined(__aarch64__)
ArchFlags Detect() { return kArchNeon; }
#else
ArchFlags Detect() { return kArchScalar; }
#endif

// The message lives until the thread's next failure.
const char* Explain(const char* problem, const char* name) {
  thread_local char text[192];
  const ArchFlags machine = DetectArch();
  int n = std::snprintf(text, sizeof(text), "isa '%.32s' %s; this machine offers auto", name, problem);
  for (const Level& level : kLevels) {
    if ((machine & level.flags) != level.flags || n < 0 || n >= static_cast<int>(sizeof(text))) continue;
    n += std::snprintf(text + n, sizeof(text) - static_cast<size_t>(n), ", %s", level.name);
  }
  return text;
}

}  // namespace

ArchFlags DetectArch() {
  static const ArchFlags flags = Detect();
  return flags;
}

bool ArchFromName(const char* name, ArchFlags* flags, const char** message) {
  const ArchFlags machine = DetectArch();
  if (std::strcmp(name, "auto") == 0) {
    *flags = machine;
    return true;
  }
  for (const Level& level : kLevels) {
    if (std::strcmp(name, level.name) != 0) continue;
    if ((machine & level.flags) != level.flags) {
      *message = Explain("is more than this machine has", name);
      return false;
    }
    *flags = level.flags | (level.optional & machine);
    return true;
  }
  *message = Explain("is unknown", name);
  return false;
}

const char* ArchName(ArchFlags flags) {
  for (const Level& level : kLevels) {
    if ((flags & level.flags) == level.flags) return level.name;
  }
  return "scalar";
}

}  // namespace shadow
