// What a cache counts of its rows (ShadowStats of abi/shadow_abi.h).
#ifndef SHADOWATTN_DELEGATE_CACHE_STATISTICS_H_
#define SHADOWATTN_DELEGATE_CACHE_STATISTICS_H_

#include <chrono>
#include <cstdint>

namespace shadow {

struct Statistics {
  int64_t rows = 0;
  int64_t causal_rows = 0;
  int64_t value_rows_read = 0;
  int64_t k_saturated = 0;
  int64_t rows_not_compensated = 0;  // scores too coarse or saturated for it
  int64_t pages = 0;                 // that rows of a selecting mode could see, summed
  int64_t pages_scored = 0;          // those of them that were scored
  double seconds_append = 0;
  double seconds_estimate = 0;
  double seconds_select = 0;
  double seconds_attend = 0;

  void Add(const Statistics& other);
};

inline void Statistics::Add(const Statistics& other) {
  rows += other.rows;
  causal_rows += other.causal_rows;
  value_rows_read += other.value_rows_read;
  k_saturated += other.k_saturated;
  rows_not_compensated += other.rows_not_compensated;
  pages += other.pages;
  pages_scored += other.pages_scored;
  seconds_append += other.seconds_append;
  seconds_estimate += other.seconds_estimate;
  seconds_select += other.seconds_select;
  seconds_attend += other.seconds_attend;
}

// Seconds from one call to the next.
class StageClock {
 public:
  double Lap() {
    const auto now = std::chrono::steady_clock::now();
    const double seconds = std::chrono::duration<double>(now - last_).count();
    last_ = now;
    return seconds;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_CACHE_STATISTICS_H_
