// Fibres of one thread block: each runs until it waits for others. Warps are resumed in random order and at random
// speeds, so that a kernel that misses a barrier is likely to compute something else.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

namespace shim {

// The machine that the kernels are shown.
struct Settings {
  int shared_limit = 227 * 1024, multiprocessors = 132;
  std::uint64_t seed = 1;
};
inline Settings& settings() {
  static Settings s;
  return s;
}

struct Block {
  static constexpr std::size_t kStack = 128 * 1024;
  struct Rendezvous {
    int arrived = 0, generation = 0;
  };
  // A fibre starts through a ucontext; from then on it is left and resumed by jumps, which cost no system call.
  struct Fibre {
    ucontext_t start;
    jmp_buf here;
    bool started;
  };
  std::vector<Fibre> fibres;
  jmp_buf scheduler;
  std::vector<std::unique_ptr<char[]>> stacks;
  std::vector<char> done;
  std::vector<std::uint64_t>
      slots[2];  // of shuffles; two, so that a fast lane does not overwrite what a slow one has to read
  std::vector<int> parity;
  std::map<int, Rendezvous> barriers;
  std::vector<std::pair<int, std::function<void()>>> late;  // work that lands after some turns of the scheduler
  std::function<void()> body;
  int current = -1;               // -1: the scheduler itself
  const char* failure = nullptr;  // ends the block; its fibres are abandoned
  long idle = 0, serial = 0;
  std::uint64_t random_state = 1;
};
inline Block& block() {
  static Block b;
  return b;
}

inline int current() { return block().current; }

inline std::uint32_t random_number() {
  std::uint64_t& s = block().random_state;
  s = s * 6364136223846793005ull + 1442695040888963407ull;
  return static_cast<std::uint32_t>(s >> 33);
}

inline void switch_to_scheduler() {
  Block& b = block();
  if (_setjmp(b.fibres[b.current].here) == 0) _longjmp(b.scheduler, 1);
}

inline void resume(int fibre) {
  Block& b = block();
  Block::Fibre& f = b.fibres[fibre];
  b.current = fibre;
  if (_setjmp(b.scheduler) == 0) {
    if (f.started) _longjmp(f.here, 1);
    f.started = true;
    setcontext(&f.start);
  }
  block().current = -1;
}

// The kernel did what the hardware would punish with a hang, a fault or nonsense: the launch returns an error.
inline void fail(const char* what) {
  if (block().failure == nullptr) block().failure = what;
  while (block().current >= 0) switch_to_scheduler();
}

inline void yield() {
  if (++block().idle > 3'000'000) fail("deadlock");
  switch_to_scheduler();
}

template <typename Condition>
void wait_until(Condition condition) {
  while (!condition()) yield();
}

// Counts one of `count` fibres; true for the last, which makes the next round begin.
inline bool arrive(int id, int count) {
  auto& r = block().barriers[id];
  if (++r.arrived < count) return false;
  r.arrived = 0;
  r.generation++;
  block().idle = 0;
  return true;
}

// The last of `count` fibres to arrive does `work` for all and releases them.
template <typename Work>
void together(int id, int count, Work work) {
  auto& r = block().barriers[id];
  const int generation = r.generation;
  if (r.arrived + 1 == count) work();
  if (!arrive(id, count)) wait_until([&] { return r.generation != generation; });
}

inline void barrier(int id, int count) {
  together(id, count, [] {});
}
inline void warp_barrier() { barrier(1000 + current() / 32, 32); }

template <typename T>
T shuffle(T value, int source) {
  static_assert(sizeof(T) <= 8, "a shuffle moves one register");
  Block& b = block();
  auto& slots = b.slots[b.parity[b.current] ^= 1];
  std::memcpy(&slots[b.current], &value, sizeof value);
  warp_barrier();
  std::memcpy(&value, &slots[source], sizeof value);
  return value;
}

inline void later(std::function<void()> work) { block().late.emplace_back(random_number() % 40, std::move(work)); }

inline void fibre_main() {
  block().body();
  block().done[block().current] = 1;
  _longjmp(block().scheduler, 1);
}

// False if it failed.
inline bool run_block(int threads, std::function<void()> body) {
  Block& b = block();
  b.fibres.resize(threads);
  b.done.assign(threads, 0);
  b.parity.assign(threads, 0);
  for (auto& s : b.slots) s.assign(threads, 0);
  b.barriers.clear();
  b.late.clear();
  b.body = std::move(body);
  b.idle = 0;
  b.failure = nullptr;
  b.serial++;
  b.random_state = ++settings().seed;
  while (static_cast<int>(b.stacks.size()) < threads) b.stacks.emplace_back(new char[Block::kStack]);
  for (int i = 0; i < threads; i++) {
    ucontext_t& start = b.fibres[i].start;
    getcontext(&start);
    start.uc_stack.ss_sp = b.stacks[i].get();
    start.uc_stack.ss_size = Block::kStack;
    start.uc_link = nullptr;
    makecontext(&start, fibre_main, 0);
    b.fibres[i].started = false;
  }
  const int warps = (threads + 31) / 32;
  unsigned slow = 0;  // a warpgroup (4 warps) that falls behind for a while
  for (int left = threads; left > 0 && b.failure == nullptr;) {
    left = 0;
    if (random_number() % 64 == 0) slow = random_number() % (warps / 4 + 2);
    const int first = static_cast<int>(random_number() % warps);
    for (int n = 0; n < warps; n++) {
      const int warp = (first + n) % warps;
      const bool sleeps = (warp / 4u == slow && random_number() % 64 != 0) || random_number() % 8 == 0;
      for (int i = warp * 32; i < std::min(threads, warp * 32 + 32); i++) {
        if (b.done[i]) continue;
        left++;
        if (sleeps) continue;
        resume(i);
        if (b.failure != nullptr) return false;
      }
    }
    for (std::size_t j = 0; j < b.late.size();) {
      if (--b.late[j].first > 0) {
        j++;
        continue;
      }
      auto work = std::move(b.late[j].second);
      b.late.erase(b.late.begin() + static_cast<std::ptrdiff_t>(j));
      work();
    }
  }
  return b.failure == nullptr;
}

}  // namespace shim
