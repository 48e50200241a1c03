// The pool in a forked child. Apart from thread_pool_test: TSan refuses threads that start after a fork, and qemu-user
// has failed at them.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <vector>

#include "base/thread_pool.h"
#include "tests/check.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

bool RunsEveryItemOnce(ThreadPool* pool) {
  std::vector<std::atomic<int>> runs(100);
  pool->ParallelFor(100, true, [&](ThreadPool::Items* items) {
    for (int64_t item; items->Take(&item);) ++runs[item];
  });
  for (auto& run : runs) {
    if (run != 1) return false;
  }
  return true;
}

// The child has no workers: it must neither wait for them nor count on them.
bool PoolWorksInChild(ThreadPool* pool) {
  if (!RunsEveryItemOnce(pool)) return false;
  pool->SetNumThreads(2);
  if (!RunsEveryItemOnce(pool)) return false;
  delete pool;
  ThreadPool own(3);
  return RunsEveryItemOnce(&own);
}

}  // namespace

int main() {
  auto* pool = new ThreadPool(3);
  CHECK(RunsEveryItemOnce(pool));
  const pid_t child = fork();
  if (child == 0) {
    alarm(120);  // ends a child that waits for a lost thread
    _exit(PoolWorksInChild(pool) ? 0 : 1);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK(RunsEveryItemOnce(pool));
  delete pool;
  return Finish();
}
