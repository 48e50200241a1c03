// For the tests and benchmarks of the kernels: a check macro, a seeded generator, aligned buffers.
#ifndef SHADOWATTN_DELEGATE_KERNELS_TESTING_H_
#define SHADOWATTN_DELEGATE_KERNELS_TESTING_H_

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <random>
#include <vector>

#include "kernels/arch.h"
#include "kernels/layout.h"

namespace shadow::testing {

inline int failures = 0;
inline uint32_t seed = 0;
inline std::mt19937 generator;

// Seeds the generator: from SHADOW_SEED, which repeats a run, or at random.
inline void Start(const char* name) {
  const char* wanted = std::getenv("SHADOW_SEED");
  seed = wanted != nullptr ? static_cast<uint32_t>(std::strtoul(wanted, nullptr, 10)) : std::random_device{}();
  generator.seed(seed);
  std::printf("%s: SHADOW_SEED=%u, machine offers %s\n", name, seed, ArchName(DetectArch()));
}

inline int Finish() {
  std::printf(failures == 0 ? "passed\n" : "FAILED: %d checks (SHADOW_SEED=%u)\n", failures, seed);
  return failures == 0 ? 0 : 1;
}

// Whether this machine can run the kernel. Prints the answer, so that nothing is skipped without a message.
inline bool HasArch(const char* kernel, ArchFlags needed) {
  const bool has = (DetectArch() & needed) == needed;
  std::printf("  %-20s %s\n", kernel, has ? "runs" : "SKIPPED: not on this machine");
  return has;
}

inline int RandomInt(int low, int high) { return std::uniform_int_distribution<int>(low, high)(generator); }
inline float RandomFloat(float low, float high) { return std::uniform_real_distribution<float>(low, high)(generator); }
inline float RandomNormal() { return std::normal_distribution<float>()(generator); }

template <class T>
struct AlignedAllocator {
  using value_type = T;
  AlignedAllocator() = default;
  template <class U>
  AlignedAllocator(const AlignedAllocator<U>&) {}
  T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t(kAlignment))); }
  void deallocate(T* p, size_t) { ::operator delete(p, std::align_val_t(kAlignment)); }
  bool operator==(const AlignedAllocator&) const { return true; }
  bool operator!=(const AlignedAllocator&) const { return false; }
};

template <class T>
using AlignedVector = std::vector<T, AlignedAllocator<T>>;

}  // namespace shadow::testing

// Prints the first 20 failures, counts all.
#define SHADOW_CHECK(condition, ...)                                    \
  do {                                                                  \
    if (!(condition) && ++::shadow::testing::failures <= 20) {          \
      std::printf("%s:%d: CHECK(%s) ", __FILE__, __LINE__, #condition); \
      std::printf(__VA_ARGS__);                                         \
      std::printf("\n");                                                \
    }                                                                   \
  } while (false)

#endif  // SHADOWATTN_DELEGATE_KERNELS_TESTING_H_
