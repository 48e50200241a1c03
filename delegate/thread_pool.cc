#include "thread_pool.h"

#include <unistd.h>

#include <utility>

namespace shadow {

bool ThreadPool::ParallelFor(int64_t count, bool may_share, const Item& item) {
  Job job;
  job.item = &item;
  job.count = count;
  std::unique_lock<std::mutex> run_lock(run_mutex_, std::defer_lock);
  if (!may_share || count < 2 || num_threads() < 2 || Forked() || !run_lock.try_lock()) {
    RunItems(&job);
    return !job.failed;
  }
  {
    std::lock_guard<std::mutex> lock(shared_->mutex);
    job_ = &job;
    ++generation_;
  }
  shared_->wake.notify_all();
  RunItems(&job);
  std::unique_lock<std::mutex> lock(shared_->mutex);
  job_ = nullptr;  // a worker that wakes only now finds nothing: nobody waits for it
  shared_->done.wait(lock, [this] { return working_ == 0; });
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
  uint64_t seen = 0;
  std::unique_lock<std::mutex> lock(shared_->mutex);
  while (true) {
    shared_->wake.wait(lock, [&] { return stopping_ || (job_ != nullptr && generation_ != seen); });
    if (stopping_) return;
    seen = generation_;
    Job* job = job_;
    ++working_;
    lock.unlock();
    RunItems(job);
    lock.lock();
    if (--working_ == 0) shared_->done.notify_one();
  }
}

void ThreadPool::SetNumThreads(int num_threads) {
  std::lock_guard<std::mutex> run_lock(run_mutex_);
  if (num_threads == this->num_threads()) return;
  Stop();
  Start(num_threads);
}

void ThreadPool::Start(int num_threads) {
  process_ = getpid();
  stopping_ = false;
  generation_ = 0;
  num_threads_ = 1;
  try {
    for (int i = 1; i < num_threads; ++i) shared_->workers.emplace_back([this] { Work(); });
  } catch (...) {
    Stop();
    throw;
  }
  num_threads_ = num_threads;
}

bool ThreadPool::Forked() const { return getpid() != process_; }

void ThreadPool::Stop() {
  if (Forked()) {
    static_cast<void>(shared_.release());
    shared_ = std::make_unique<Shared>();
    job_ = nullptr;
    working_ = 0;
    return;
  }
  {
    std::lock_guard<std::mutex> lock(shared_->mutex);
    stopping_ = true;
  }
  shared_->wake.notify_all();
  for (std::thread& worker : shared_->workers) worker.join();
  shared_->workers.clear();
}

std::unique_ptr<Scratch> ThreadPool::TakeScratch() {
  std::lock_guard<std::mutex> lock(shared_->mutex);
  if (idle_scratch_.empty()) return std::make_unique<Scratch>();
  std::unique_ptr<Scratch> scratch = std::move(idle_scratch_.back());
  idle_scratch_.pop_back();
  return scratch;
}

void ThreadPool::ReturnScratch(std::unique_ptr<Scratch> scratch) {
  std::lock_guard<std::mutex> lock(shared_->mutex);
  idle_scratch_.push_back(std::move(scratch));
}

}  // namespace shadow
