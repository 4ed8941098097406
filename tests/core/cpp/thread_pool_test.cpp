// Built and run by tests/core/test_thread_pool.py, under ThreadSanitizer; prints what fails and exits with 1.
#include "core/thread_pool.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using mtfa::ThreadPool;

#define CHECK(condition)                                                           \
  do {                                                                             \
    if (!(condition)) {                                                            \
      std::fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
      std::_Exit(1);                                                               \
    }                                                                              \
  } while (0)

namespace {

// Plain ints on purpose: a task done twice or seen before it is done is a data race for the sanitizer.
bool every_task_once(ThreadPool& pool, int tasks) {
  std::vector<int> hits(static_cast<size_t>(tasks), 0);
  pool.run(tasks, [&](int task) { ++hits[static_cast<size_t>(task)]; });
  return std::accumulate(hits.begin(), hits.end(), 0) == tasks &&
         std::all_of(hits.begin(), hits.end(), [](int hit) { return hit == 1; });
}

void jobs_of_all_sizes() {
  for (int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    CHECK(pool.size() == threads);
    for (int tasks : {0, 1, 2, 3, 7, 64, 1000}) CHECK(every_task_once(pool, tasks));
    for (int i = 0; i < 2000; ++i) CHECK(every_task_once(pool, 1 + i % 5));
  }
}

void workers_help() {
  ThreadPool pool(2);
  std::atomic<int> inside{0};
  // Ends only if two threads are in the job at the same time.
  pool.run(2, [&](int) {
    ++inside;
    while (inside < 2) std::this_thread::yield();
  });
}

// Nobody goes on before all four have a task: each has the first of its own quarter then.
void threads_begin_with_their_own_share() {
  ThreadPool pool(4);
  for (int repeat = 0; repeat < 20; ++repeat) {
    std::atomic<int> begun{0};
    std::vector<std::atomic<int>> order(40);
    pool.run(40, [&](int task) {
      order[static_cast<size_t>(task)] = begun++;
      while (begun < 4) std::this_thread::yield();
    });
    for (int task : {0, 10, 20, 30}) CHECK(order[static_cast<size_t>(task)] < 4);
  }
}

void jobs_after_sleep() {
  ThreadPool pool(3);
  for (int i = 0; i < 20; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(i % 3));
    CHECK(every_task_once(pool, 1 + i));
    // A task longer than the caller's patience: the caller sleeps, too.
    pool.run(3, [&](int task) { std::this_thread::sleep_for(std::chrono::milliseconds(task)); });
  }
}

void exceptions_come_out() {
  for (int threads : {1, 4}) {
    ThreadPool pool(threads);
    std::string caught;
    try {
      pool.run(100, [](int task) {
        if (task == 7) throw std::runtime_error("task 7");
      });
    } catch (const std::runtime_error& error) {
      caught = error.what();
    }
    CHECK(caught == "task 7");
    CHECK(every_task_once(pool, 50));
  }
}

void nested_jobs() {
  ThreadPool pool(4);
  std::atomic<int> count{0};
  pool.run(8, [&](int) { pool.run(8, [&](int) { ++count; }); });
  CHECK(count == 64);
}

void many_callers() {
  ThreadPool pool(3);
  std::vector<std::thread> callers;
  std::atomic<bool> right{true};
  for (int i = 0; i < 8; ++i) {
    callers.emplace_back([&] {
      for (int job = 0; job < 300; ++job) {
        if (!every_task_once(pool, 1 + job % 9)) right = false;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(right);
}

void child_process() {
  ThreadPool& pool = mtfa::shared_pool(3);
  CHECK(&pool == &mtfa::shared_pool(3));
  CHECK(every_task_once(pool, 100));
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    alarm(20);  // a hang ends here, with a signal
    std::atomic<int> inside{0};
    pool.run(2, [&](int) {
      ++inside;
      while (inside < 2) std::this_thread::yield();
    });
    std::_Exit(every_task_once(pool, 100) ? 0 : 1);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK(every_task_once(pool, 100));
}

void bad_sizes() {
  for (int threads : {0, -1, ThreadPool::kMaxThreads + 1}) {
    bool refused = false;
    try {
      mtfa::shared_pool(threads);
    } catch (const std::invalid_argument&) {
      refused = true;
    }
    CHECK(refused);
  }
}

void print_latency() {
  ThreadPool pool(2);
  constexpr int kJobs = 20000;
  // Each task waits for the other one to begin, so a job is one round trip between the two threads.
  for (int round = 0; round < 3; ++round) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kJobs; ++i) {
      std::atomic<int> begun{0};
      pool.run(2, [&](int) {
        ++begun;
        while (begun < 2) std::this_thread::yield();
      });
    }
    const std::chrono::duration<double, std::micro> taken = std::chrono::steady_clock::now() - start;
    std::printf("a job that needs both of two threads: %.2f us\n", taken.count() / kJobs);
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count > 1 && std::string(arguments[1]) == "latency") {
    print_latency();
    return 0;
  }
  jobs_of_all_sizes();
  workers_help();
  threads_begin_with_their_own_share();
  jobs_after_sleep();
  exceptions_come_out();
  nested_jobs();
  many_callers();
  child_process();
  bad_sizes();
  CHECK(mtfa::default_threads() >= 1);
  std::puts("thread pool: ok");
  return 0;
}
