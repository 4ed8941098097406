// A small thread pool for many short jobs in a row: one job costs one to two microseconds to hand out, because workers
// look for the next one for some 50 microseconds before they sleep.
#pragma once

#include <atomic>
#include <memory>
#include <type_traits>

namespace mtfa {

// Cores that this process may use: its affinity, and the CPU quota of its control group rounded up. At least 1.
int default_threads();

class ThreadPool {
 public:
  // `threads` counts the caller of run(): 1 starts no thread. The workers start with the first job that needs them.
  // Throws std::invalid_argument unless 1 <= threads <= kMaxThreads.
  explicit ThreadPool(int threads);
  ~ThreadPool();  // no run() may be in progress
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  static constexpr int kMaxThreads = 1024;

  int size() const { return threads_; }

  // Calls f(task) once for every task in [0, tasks), on the caller and the workers, in no set order, and returns when
  // all are done. The first exception of a task comes out here; tasks that had not begun by then are left out.
  //
  // Each thread begins with a share of neighbouring tasks, the same one in every job of that many tasks: what it made
  // in one job is still in its core's caches when it reads it in the next. Who is done takes from the others' ends.
  //
  // Any thread may call at any time. The workers serve one caller; a second one, or a task that calls run() itself,
  // does its tasks alone. In a child process after fork() the pool starts workers of its own.
  template <class F>
  void run(int tasks, F&& f) {
    using Function = std::remove_reference_t<F>;
    run_erased(
        tasks, [](const void* function, int task) { (*static_cast<Function*>(const_cast<void*>(function)))(task); },
        std::addressof(f));
  }

 private:
  using Call = void (*)(const void* function, int task);
  struct Crew;
  void run_erased(int tasks, Call call, const void* function);
  Crew* crew();

  const int threads_;
  std::atomic<Crew*> crew_{nullptr};
  std::atomic<bool> hiring_{false};
};

// The process's pool of that many threads, made on first use and kept: jobs of one process share workers.
ThreadPool& shared_pool(int threads);

}  // namespace mtfa
