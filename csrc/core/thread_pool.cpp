#include "core/thread_pool.h"

#include <pthread.h>
#include <signal.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace mtfa {
namespace {

// Grows by one in every child of fork(): a crew hired before has no threads there, and its locks are in any state.
std::atomic<unsigned> forks{0};

void count_forks() {
  static const int registered = pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1); });
  (void)registered;
}

void pause_cpu() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Waits for `ready` without sleeping, for a short time; gives the core away in between when others want it.
template <class Ready>
bool spin_until(Ready ready) {
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::microseconds kQuiet{20}, kBudget{60};
  const Clock::time_point start = Clock::now();
  for (;;) {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return true;
      pause_cpu();
    }
    const Clock::duration waited = Clock::now() - start;
    if (waited > kBudget) return ready();
    if (waited > kQuiet) std::this_thread::yield();
  }
}

// The tasks [first, end) that nobody has taken of one thread's share. Its thread takes the first, the others the last.
class alignas(64) Share {
 public:
  void fill(int first, int end) { range_ = pack(first, end); }
  // One task, or -1 where none is left.
  int take(bool from_front) {
    uint64_t range = range_;
    for (;;) {
      const int first = static_cast<int>(range >> 32), end = static_cast<int>(range & 0xffffffff);
      if (first == end) return -1;
      if (from_front) {
        if (range_.compare_exchange_weak(range, pack(first + 1, end))) return first;
      } else {
        if (range_.compare_exchange_weak(range, pack(first, end - 1))) return end - 1;
      }
    }
  }

 private:
  static uint64_t pack(int first, int end) { return static_cast<uint64_t>(first) << 32 | static_cast<uint32_t>(end); }
  std::atomic<uint64_t> range_{0};
};

// Signals belong to the threads of the application (Python's main thread), not to workers.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace

// The workers and the one job they share. The job's fields are written while nobody can claim a task (unclaimed == 0
// and unfinished == 0) and read only after a task of the job has been claimed, which keeps it from ending. To claim one
// is to count `unclaimed` down; which one it is, the shares tell.
struct ThreadPool::Crew {
  Call call = nullptr;
  const void* function = nullptr;
  std::vector<Share> shares;  // the caller's, then the workers'
  std::exception_ptr error;
  std::atomic<bool> failed{false};
  alignas(64) std::atomic<int> unclaimed{0};
  alignas(64) std::atomic<int> unfinished{0};

  alignas(64) std::atomic<bool> busy{false};
  std::atomic<bool> stop{false};
  std::atomic<int> sleepers{0};
  std::atomic<bool> caller_sleeps{false};
  std::mutex mutex;
  std::condition_variable work_to_do, job_done;
  unsigned born = forks.load();
  std::vector<std::thread> workers;

  explicit Crew(int count) : shares(static_cast<size_t>(count) + 1) {
    const SignalsBlocked blocked;
    try {
      for (int i = 0; i < count; ++i) workers.emplace_back([this, i] { serve(static_cast<size_t>(i) + 1); });
    } catch (const std::system_error&) {
      // The system gives no more threads: go on with those that there are.
    }
  }

  ~Crew() {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      stop = true;
    }
    work_to_do.notify_all();
    for (std::thread& worker : workers) worker.join();
  }

  // The task of a claim. There is one: no more are claimed than there are, and a share that is empty stays so.
  int claimed_task(size_t own) {
    for (size_t i = own;; i = (i + 1) % shares.size()) {
      const int task = shares[i].take(i == own);
      if (task >= 0) return task;
    }
  }

  void take_part(size_t own) {
    int left = unclaimed.load();
    while (left > 0) {
      if (!unclaimed.compare_exchange_weak(left, left - 1)) continue;
      const int task = claimed_task(own);
      if (!failed.load(std::memory_order_relaxed)) {
        try {
          call(function, task);
        } catch (...) {
          if (!failed.exchange(true)) error = std::current_exception();
        }
      }
      if (unfinished.fetch_sub(1) == 1 && caller_sleeps) {
        const std::lock_guard<std::mutex> lock(mutex);
        job_done.notify_one();
      }
      left = unclaimed.load();
    }
  }

  void serve(size_t own) {
    const auto wanted = [this] { return unclaimed > 0 || stop; };
    while (!stop) {
      take_part(own);
      if (spin_until(wanted)) continue;
      std::unique_lock<std::mutex> lock(mutex);
      ++sleepers;  // before the last look: the caller stores the job first and looks for sleepers then
      work_to_do.wait(lock, wanted);
      --sleepers;
    }
  }

  void lead(int count, Call job_call, const void* job_function) {
    call = job_call;
    function = job_function;
    const auto before = [&](size_t share) { return static_cast<int>(share * count / shares.size()); };
    for (size_t i = 0; i < shares.size(); ++i) shares[i].fill(before(i), before(i + 1));
    failed = false;
    unfinished = count;
    unclaimed = count;
    if (sleepers > 0) {
      {
        const std::lock_guard<std::mutex> lock(mutex);
      }  // a worker between its last look and its sleep gets there
      if (count > 2) {
        work_to_do.notify_all();
      } else {
        work_to_do.notify_one();
      }
    }
    take_part(0);
    const auto done = [this] { return unfinished == 0; };
    if (!spin_until(done)) {
      std::unique_lock<std::mutex> lock(mutex);
      caller_sleeps = true;
      job_done.wait(lock, done);
      caller_sleeps = false;
    }
    if (error) std::rethrow_exception(std::exchange(error, nullptr));
  }
};

ThreadPool::ThreadPool(int threads) : threads_(threads) {
  if (threads < 1 || threads > kMaxThreads) {
    throw std::invalid_argument("threads: got " + std::to_string(threads) +
                                ", allowed: 1 <= threads <= " + std::to_string(kMaxThreads));
  }
  count_forks();
}

ThreadPool::~ThreadPool() {
  Crew* crew = crew_.load();
  if (crew && crew->born == forks) delete crew;  // a crew from before a fork cannot be joined: it is left behind
}

ThreadPool::Crew* ThreadPool::crew() {
  Crew* crew = crew_.load(std::memory_order_acquire);
  if (crew && crew->born == forks) return crew;
  if (hiring_.exchange(true)) return nullptr;  // another thread is at it
  crew = crew_.load();
  if (!crew || crew->born != forks) {
    crew = new Crew(threads_ - 1);
    crew_.store(crew, std::memory_order_release);
  }
  hiring_ = false;
  return crew;
}

void ThreadPool::run_erased(int tasks, Call call, const void* function) {
  if (threads_ > 1 && tasks > 1) {
    Crew* const workers = crew();
    if (workers && !workers->busy.exchange(true, std::memory_order_acquire)) {
      struct Release {
        std::atomic<bool>& busy;
        ~Release() { busy.store(false, std::memory_order_release); }
      } release{workers->busy};
      workers->lead(tasks, call, function);
      return;
    }
  }
  for (int task = 0; task < tasks; ++task) call(function, task);
}

ThreadPool& shared_pool(int threads) {
  // No lock, which a fork() could leave locked in the child. Never destroyed: a worker may outlive static objects.
  static std::atomic<ThreadPool*> pools[ThreadPool::kMaxThreads + 1];
  auto fresh = std::make_unique<ThreadPool>(threads);  // validates; starts no thread
  ThreadPool* pool = nullptr;
  return pools[threads].compare_exchange_strong(pool, fresh.get()) ? *fresh.release() : *pool;
}

}  // namespace mtfa
