// The pool: every item once, failures reported, resizing, several callers at once.
#include "base/thread_pool.h"

#include <sys/wait.h>
#include <unistd.h>

#include <new>

#include "tests/check.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

void TestEveryItemOnce(ThreadPool* pool) {
  for (int64_t count : {0, 1, 2, 3, 100}) {
    std::vector<std::atomic<int>> runs(count);
    CHECK(pool->ParallelFor(count, true, [&](int64_t item, Scratch* scratch) {
      scratch->q.Reserve(100)[99] = 1;
      ++runs[item];
    }));
    for (auto& run : runs) CHECK(run == 1);
  }
}

void TestFailure(ThreadPool* pool) {
  CHECK(!pool->ParallelFor(10, true, [](int64_t item, Scratch*) {
    if (item == 7) throw std::bad_alloc();
  }));
  TestEveryItemOnce(pool);
}

void TestManyCallers(ThreadPool* pool) {
  std::vector<std::thread> callers;
  std::atomic<int> items{0};
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      for (int run = 0; run < 200; ++run) {
        if (!pool->ParallelFor(5, true, [&](int64_t, Scratch*) { ++items; })) items = -1000000;
      }
    });
  }
  for (int run = 0; run < 20; ++run) pool->SetNumThreads(1 + run % 3);
  for (std::thread& caller : callers) caller.join();
  CHECK(items == 4 * 200 * 5);
}

// The child has no workers: it must neither wait for them nor count on them.
void TestFork() {
  auto* pool = new ThreadPool(3);
  TestEveryItemOnce(pool);
  pid_t child = fork();
  if (child == 0) {
    alarm(10);
    TestEveryItemOnce(pool);
    pool->SetNumThreads(2);
    TestEveryItemOnce(pool);
    delete pool;
    pool = new ThreadPool(3);
    TestEveryItemOnce(pool);
    _exit(0);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  TestEveryItemOnce(pool);
  delete pool;
}

}  // namespace

int main() {
  TestFork();
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    CHECK(pool.num_threads() == threads);
    TestEveryItemOnce(&pool);
    TestFailure(&pool);
    TestManyCallers(&pool);
  }
  return Finish();
}
