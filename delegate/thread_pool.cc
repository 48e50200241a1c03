#include "thread_pool.h"

#include <unistd.h>

#include <utility>

namespace shadow {

ThreadPool::ThreadPool(int num_threads) : process_(getpid()) { Start(num_threads); }

bool ThreadPool::ParallelFor(int64_t count, bool may_share, const Item& item) {
  LeaveParent();
  Job job;
  job.item = &item;
  job.count = count;
  std::unique_lock<std::mutex> run_lock(shared_->run_mutex, std::defer_lock);
  if (!may_share || count < 2 || num_threads() < 2 || !run_lock.try_lock()) {
    RunItems(&job);
    return !job.failed;
  }
  {
    std::lock_guard<std::mutex> lock(shared_->mutex);
    shared_->job = &job;
    ++shared_->generation;
  }
  shared_->wake.notify_all();
  RunItems(&job);
  std::unique_lock<std::mutex> lock(shared_->mutex);
  shared_->job = nullptr;  // a worker that wakes only now finds nothing: nobody waits for it
  shared_->done.wait(lock, [this] { return shared_->working == 0; });
  return !job.failed;
}

void ThreadPool::RunItems(Job* job) {
  try {
    std::unique_ptr<Scratch> scratch = TakeScratch();
    for (int64_t i = job->next++; i < job->count && !job->failed; i = job->next++) (*job->item)(i, scratch.get());
    ReturnScratch(std::move(scratch));
  } catch (...) {  // std::bad_alloc: items throw nothing else
    job->failed = true;
  }
}

void ThreadPool::Work() {
  Shared& shared = *shared_;
  uint64_t visible = 0;
  std::unique_lock<std::mutex> lock(shared.mutex);
  while (true) {
    shared.wake.wait(lock, [&] { return shared.stopping || (shared.job != nullptr && shared.generation != visible); });
    if (shared.stopping) return;
    visible = shared.generation;
    Job* job = shared.job;
    ++shared.working;
    lock.unlock();
    RunItems(job);
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
    for (int i = 1; i < num_threads; ++i) shared_->workers.emplace_back([this] { Work(); });
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

std::unique_ptr<Scratch> ThreadPool::TakeScratch() {
  std::lock_guard<std::mutex> lock(shared_->mutex);
  if (shared_->idle_scratch.empty()) return std::make_unique<Scratch>();
  std::unique_ptr<Scratch> scratch = std::move(shared_->idle_scratch.back());
  shared_->idle_scratch.pop_back();
  return scratch;
}

void ThreadPool::ReturnScratch(std::unique_ptr<Scratch> scratch) {
  std::lock_guard<std::mutex> lock(shared_->mutex);
  shared_->idle_scratch.push_back(std::move(scratch));
}

}  // namespace shadow
