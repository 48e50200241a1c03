// Instruction sets of this machine, detected once, and the ISA levels that the option `isa` can force.
#ifndef SHADOWATTN_DELEGATE_KERNELS_ARCH_H_
#define SHADOWATTN_DELEGATE_KERNELS_ARCH_H_

#include <cstdint>

namespace shadow {

using ArchFlags = uint32_t;
inline constexpr ArchFlags kArchScalar = 0;
inline constexpr ArchFlags kArchAvx2 = 1u << 0;        // AVX2, FMA, F16C
inline constexpr ArchFlags kArchAvx512 = 1u << 1;      // F, BW, DQ, VL
inline constexpr ArchFlags kArchAvx512Vnni = 1u << 2;  // VNNI on top of kArchAvx512
inline constexpr ArchFlags kArchNeon = 1u << 3;
inline constexpr ArchFlags kArchNeonDot = 1u << 4;
inline constexpr ArchFlags kArchAvx512Amx = 1u << 5;    // AMX-TILE, AMX-INT8 on top of kArchAvx512Vnni
inline constexpr ArchFlags kArchAvx512Vbmi2 = 1u << 6;  // VBMI2 on top of kArchAvx512
inline constexpr ArchFlags kArchAvx512Fp16 = 1u << 7;   // FP16 on top of kArchAvx512
inline constexpr ArchFlags kArchNeonI8mm = 1u << 8;     // I8MM on top of kArchNeonDot
inline constexpr ArchFlags kArchNeonFp16 = 1u << 9;     // FP16 arithmetic on top of kArchNeon

// Instruction sets that this machine can run, from CPUID and from the register state that the operating system saves.
// Where the CPU has AMX, the first call asks Linux to allow the tile registers for the whole process; without the
// permission the result has no AMX.
ArchFlags DetectArch();
// Flags of the level called `name` and of all levels below it: "auto" (the best), "scalar", "avx2", "avx512",
// "avx512vnni", "avx512amx", "neon", "neondot", "neoni8mm". Levels from avx512vnni on bring VBMI2 and FP16, levels from
// neondot on FP16, where the machine has them. Returns false for an unknown name or a level that DetectArch() lacks;
// *message then says which, and what the machine offers.
bool ArchFromName(const char* name, ArchFlags* flags, const char** message);
// Name of the highest level in flags.
const char* ArchName(ArchFlags flags);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_ARCH_H_
