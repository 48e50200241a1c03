#include "base/thread_pool.h"

#include <unistd.h>

namespace shadow {

ThreadPool::ThreadPool(int num_threads) : process_(getpid()) { Start(num_threads); }

void ThreadPool::ParallelFor(int64_t count, bool may_share, const Work& work) {
  LeaveParent();
  Job job(work, count);
  std::unique_lock<std::mutex> run_lock(shared_->run_mutex, std::defer_lock);
  if (!may_share || count < 2 || num_threads() < 2 || !run_lock.try_lock()) {
    job.Run();
  } else {
    RunShared(&job);
  }
  if (job.error) std::rethrow_exception(job.error);
}

void ThreadPool::RunShared(Job* job) {
  {
    std::lock_guard<std::mutex> lock(shared_->mutex);
    shared_->job = job;
    ++shared_->generation;
  }
  shared_->wake.notify_all();
  job->Run();
  std::unique_lock<std::mutex> lock(shared_->mutex);
  shared_->job = nullptr;  // a worker that wakes only now finds nothing: nobody waits for it
  shared_->done.wait(lock, [this] { return shared_->working == 0; });
}

void ThreadPool::Job::Run() {
  try {
    work(&items);
  } catch (...) {
    if (!items.failed_.exchange(true)) error = std::current_exception();
  }
}

void ThreadPool::RunWorker() {
  Shared& shared = *shared_;
  uint64_t joined = 0;
  std::unique_lock<std::mutex> lock(shared.mutex);
  while (true) {
    shared.wake.wait(lock, [&] { return shared.stopping || (shared.job != nullptr && shared.generation != joined); });
    if (shared.stopping) return;
    joined = shared.generation;
    Job* job = shared.job;
    ++shared.working;
    lock.unlock();
    job->Run();
    lock.lock();
    if (--shared.working == 0) shared.done.notify_one();
  }
}

void ThreadPool::SetNumThreads(int num_threads) {
  LeaveParent();
  std::lock_guard<std::mutex> run_lock(shared_->run_mutex);
  if (num_threads == this->num_threads()) return;
  Stop();
  Start(num_threads);
}

void ThreadPool::Start(int num_threads) {
  shared_->stopping = false;
  shared_->generation = 0;
  num_threads_ = 1;
  try {
    for (int i = 1; i < num_threads; ++i) shared_->workers.emplace_back([this] { RunWorker(); });
  } catch (...) {
    Stop();
    throw;
  }
  num_threads_ = num_threads;
}

void ThreadPool::LeaveParent() {
  const int here = getpid();
  if (process_.exchange(here) == here) return;
  static_cast<void>(shared_.release());
  shared_ = std::make_unique<Shared>();
  num_threads_ = 1;
}

void ThreadPool::Stop() {
  LeaveParent();
  {
    std::lock_guard<std::mutex> lock(shared_->mutex);
    shared_->stopping = true;
  }
  shared_->wake.notify_all();
  for (std::thread& worker : shared_->workers) worker.join();
  shared_->workers.clear();
}

}  // namespace shadow
