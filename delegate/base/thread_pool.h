// The delegate's own threads: items of a job are taken from one counter, so uneven items balance themselves.
#ifndef SHADOWATTN_DELEGATE_BASE_THREAD_POOL_H_
#define SHADOWATTN_DELEGATE_BASE_THREAD_POOL_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace shadow {

// Several threads may call ParallelFor at once: one gets the workers, the others work alone rather than wait.
// After fork() the child has no workers: there the pool works alone, and is destroyed without waiting for them.
class ThreadPool {
 public:
  // What is left of a job: items 0 .. count - 1, each for one thread.
  class Items {
   public:
    explicit Items(int64_t count) : count_(count) {}
    // False: none is left, or the work has failed on another thread.
    bool Take(int64_t* item) {
      if (failed_) return false;
      *item = next_++;
      return *item < count_;
    }

   private:
    friend class ThreadPool;
    const int64_t count_;
    std::atomic<int64_t> next_{0};
    std::atomic<bool> failed_{false};
  };
  // Takes items until none is left. Every thread that helps calls it once.
  using Work = std::function<void(Items* items)>;

  explicit ThreadPool(int num_threads);
  ~ThreadPool() { Stop(); }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Returns once all items are done. Throws what `work` threw first; then some items may not have run.
  // may_share false: on this thread only, for jobs too small to be worth waking others.
  void ParallelFor(int64_t count, bool may_share, const Work& work);

  // Waits for a running job. Throws std::system_error when the machine gives no more threads.
  void SetNumThreads(int num_threads);
  int num_threads() const { return num_threads_.load(std::memory_order_relaxed); }

 private:
  struct Job {
    Job(const Work& work, int64_t count) : work(work), items(count) {}
    void Run();  // on one thread

    const Work& work;
    Items items;
    std::exception_ptr error;  // of the thread that failed first
  };

  // What threads share. A forked child abandons it as it is: a thread that does not exist there may have held a mutex,
  // and destroying the rest would wait for such threads.
  struct Shared {
    std::mutex run_mutex;  // held by the caller that has the workers
    std::mutex mutex;      // guards the members below
    std::condition_variable wake;
    std::condition_variable done;
    std::vector<std::thread> workers;
    Job* job = nullptr;       // workers may join it
    uint64_t generation = 0;  // counts jobs, so that no worker joins one twice
    int working = 0;          // workers inside a job
    bool stopping = false;
  };

  void Start(int num_threads);
  void Stop();
  void RunWorker();
  void RunShared(Job* job);

  // In a forked child: begins anew, without workers.
  void LeaveParent();

  std::unique_ptr<Shared> shared_ = std::make_unique<Shared>();
  std::atomic<int> process_;  // where the workers are
  std::atomic<int> num_threads_{1};
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_BASE_THREAD_POOL_H_
