// A check that prints and counts; a test's main returns Finish().
#ifndef SHADOWATTN_DELEGATE_TESTS_CHECK_H_
#define SHADOWATTN_DELEGATE_TESTS_CHECK_H_

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "base/status.h"

namespace shadow::testing {

inline int checks = 0;
inline int failures = 0;

inline void Check(bool good, const char* file, int line, const std::string& text) {
  ++checks;
  if (good || ++failures > 20) return;
  std::printf("%s:%d: %s\n", file, line, text.c_str());
}

inline bool Contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// SHADOW_SEED repeats a run.
inline uint32_t Seed() {
  const char* wanted = std::getenv("SHADOW_SEED");
  static const uint32_t seed = wanted ? uint32_t(std::strtoul(wanted, nullptr, 10)) : std::random_device{}();
  return seed;
}

inline std::vector<float> RandomFloats(size_t count, std::mt19937* generator) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(*generator);
  return values;
}

inline int Finish() {
  std::printf("%d checks, %d failed (SHADOW_SEED=%u)\n", checks, failures, Seed());
  return failures == 0 ? 0 : 1;
}

}  // namespace shadow::testing

#define CHECK(condition) ::shadow::testing::Check((condition), __FILE__, __LINE__, #condition)
#define CHECK_OK(expression)                                                                                    \
  do {                                                                                                          \
    const ::shadow::Status check_status = (expression);                                                         \
    ::shadow::testing::Check(check_status.ok(), __FILE__, __LINE__, #expression ": " + check_status.message()); \
  } while (false)
// The expression is refused, and the message contains `part`.
#define CHECK_REFUSED(expression, part)                                                                        \
  do {                                                                                                         \
    const ::shadow::Status check_status = (expression);                                                        \
    ::shadow::testing::Check(                                                                                  \
        !check_status.ok() && ::shadow::testing::Contains(check_status.message(), (part)), __FILE__, __LINE__, \
        std::string(#expression " should say '") + (part) + "', said '" + check_status.message() + "'");       \
  } while (false)

#endif  // SHADOWATTN_DELEGATE_TESTS_CHECK_H_
