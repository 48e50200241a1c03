// The delegate's own threads: items of a job are taken from one counter, so uneven items balance themselves.
#ifndef SHADOWATTN_DELEGATE_THREAD_POOL_H_
#define SHADOWATTN_DELEGATE_THREAD_POOL_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "scratch.h"

namespace shadow {

// Several threads may call ParallelFor at once: one gets the workers, the others work alone rather than wait.
// After fork() the child has no workers: there the pool works alone, and is destroyed without waiting for them.
class ThreadPool {
 public:
  using Item = std::function<void(int64_t item, Scratch* scratch)>;

  explicit ThreadPool(int num_threads) { Start(num_threads); }
  ~ThreadPool() { Stop(); }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Runs item(0) .. item(count - 1), in any order. False if memory ran out in one of them; the others may not have run.
  // may_share false: on this thread only, for jobs too small to be worth waking others.
  [[nodiscard]] bool ParallelFor(int64_t count, bool may_share, const Item& item);

  // Waits for a running job. Throws std::system_error when the machine gives no more threads.
  void SetNumThreads(int num_threads);
  int num_threads() const { return num_threads_.load(std::memory_order_relaxed); }

 private:
  struct Job {
    const Item* item;
    int64_t count;
    std::atomic<int64_t> next{0};
    std::atomic<bool> failed{false};
  };

  // What workers wait on. In a forked child it is never destroyed: that would wait for threads which do not exist.
  struct Shared {
    std::mutex mutex;  // guards the members below
    std::condition_variable wake;
    std::condition_variable done;
    std::vector<std::thread> workers;
  };

  void Start(int num_threads);
  void Stop();
  void Work();
  void RunItems(Job* job);
  std::unique_ptr<Scratch> TakeScratch();
  void ReturnScratch(std::unique_ptr<Scratch> scratch);

  bool Forked() const;

  std::mutex run_mutex_;  // held by the caller that has the workers
  std::unique_ptr<Shared> shared_ = std::make_unique<Shared>();
  Job* job_ = nullptr;       // workers may join it
  uint64_t generation_ = 0;  // counts jobs, so that no worker joins one twice
  int working_ = 0;          // workers inside a job
  bool stopping_ = false;
  std::vector<std::unique_ptr<Scratch>> idle_scratch_;
  std::atomic<int> process_{0};  // where the workers are
  std::atomic<int> num_threads_{1};
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_THREAD_POOL_H_
