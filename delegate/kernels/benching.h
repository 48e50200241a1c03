// Timing for the kernel benchmarks.
#ifndef SHADOWATTN_DELEGATE_KERNELS_BENCHING_H_
#define SHADOWATTN_DELEGATE_KERNELS_BENCHING_H_

#include <chrono>

namespace shadow::testing {

// Nanoseconds of one call: the fastest of many short batches, 0.1 s in all, so that other programs disturb little.
template <class Function>
double Nanoseconds(Function f) {
  using Clock = std::chrono::steady_clock;
  constexpr double kBatch = 2e5, kAll = 1e8;
  const auto batch = [&](int calls) {
    const auto start = Clock::now();
    for (int i = 0; i < calls; ++i) f();
    return std::chrono::duration<double, std::nano>(Clock::now() - start).count();
  };
  batch(1);
  const int calls = static_cast<int>(kBatch / (batch(1) + 1)) + 1;
  double best = batch(calls), all = best;
  while (all < kAll) {
    const double t = batch(calls);
    all += t;
    best = t < best ? t : best;
  }
  return best / calls;
}

}  // namespace shadow::testing

#endif  // SHADOWATTN_DELEGATE_KERNELS_BENCHING_H_
