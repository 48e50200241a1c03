// The pool: every item once, failures rethrown as they are, resizing, several callers at once.
#include "base/thread_pool.h"

#include <new>
#include <stdexcept>

#include "tests/check.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

void TestEveryItemOnce(ThreadPool* pool) {
  for (int64_t count : {0, 1, 2, 3, 100}) {
    std::vector<std::atomic<int>> runs(count);
    pool->ParallelFor(count, true, [&](ThreadPool::Items* items) {
      for (int64_t item; items->Take(&item);) ++runs[item];
    });
    for (auto& run : runs) CHECK(run == 1);
  }
}

// What the work of one item throws reaches the caller as it is, and the pool can be used again.
template <typename Error>
void TestFailure(ThreadPool* pool, const Error& error, const std::string& what) {
  std::string caught;
  try {
    pool->ParallelFor(10, true, [&](ThreadPool::Items* items) {
      for (int64_t item; items->Take(&item);) {
        if (item == 7) throw error;
      }
    });
  } catch (const Error& e) {
    caught = e.what();
  }
  CHECK(caught == what);
  TestEveryItemOnce(pool);
}

void TestManyCallers(ThreadPool* pool) {
  std::vector<std::thread> callers;
  std::atomic<int> done{0};
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      for (int run = 0; run < 200; ++run) {
        pool->ParallelFor(5, true, [&](ThreadPool::Items* items) {
          for (int64_t item; items->Take(&item);) ++done;
        });
      }
    });
  }
  for (int run = 0; run < 20; ++run) pool->SetNumThreads(1 + run % 3);
  for (std::thread& caller : callers) caller.join();
  CHECK(done == 4 * 200 * 5);
}

}  // namespace

int main() {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    CHECK(pool.num_threads() == threads);
    TestEveryItemOnce(&pool);
    TestFailure(&pool, std::bad_alloc(), std::bad_alloc().what());
    TestFailure(&pool, std::out_of_range("page 9"), "page 9");
    TestManyCallers(&pool);
  }
  return Finish();
}
