#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

#include "core/thread_pool.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace mtfa {
namespace {

int cores_by_affinity() {
#if defined(__linux__)
  // The set's size is the kernel's business: ask with growing ones.
  for (int cpus = 1024; cpus <= 1 << 18; cpus *= 2) {
    cpu_set_t* const set = CPU_ALLOC(cpus);
    if (!set) break;
    const size_t bytes = CPU_ALLOC_SIZE(cpus);
    const int count = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (count > 0) return count;
  }
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

int cores(double quota, double period) {
  if (!(quota > 0) || !(period > 0)) return 0;
  return std::max(1, static_cast<int>(std::min(quota / period + 0.999, 1e6)));
}

// "max 100000" or "150000 100000" (microseconds)
int quota_v2(const std::string& folder) {
  std::ifstream file(folder + "/cpu.max");
  double quota = 0, period = 0;
  return file >> quota >> period ? cores(quota, period) : 0;
}

int quota_v1(const std::string& folder) {
  std::ifstream quota_file(folder + "/cpu.cfs_quota_us"), period_file(folder + "/cpu.cfs_period_us");
  double quota = 0, period = 0;
  return quota_file >> quota && period_file >> period ? cores(quota, period) : 0;
}

// The tightest quota from the process's group up to the root; inside a container the group's own path may not be
// mounted, while the root that is mounted carries the limit.
int tightest(const std::string& mount, std::string group, int (*quota)(const std::string&)) {
  int best = 0;
  for (;;) {
    const int found = quota(mount + group);
    if (found > 0) best = best > 0 ? std::min(best, found) : found;
    if (group.empty()) return best;
    const size_t cut = group.find_last_of('/');
    group.resize(cut == std::string::npos ? 0 : cut);
  }
}

int cores_by_quota() {
  int best = 0;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    std::istringstream fields(line);  // hierarchy:controllers:path
    std::string number, controllers, path;
    if (!std::getline(fields, number, ':') || !std::getline(fields, controllers, ':') || !std::getline(fields, path)) {
      continue;
    }
    int found = 0;
    if (controllers.empty()) {
      found = tightest("/sys/fs/cgroup", path, quota_v2);
    } else if (("," + controllers + ",").find(",cpu,") != std::string::npos) {
      found = tightest("/sys/fs/cgroup/cpu", path, quota_v1);
    }
    if (found > 0) best = best > 0 ? std::min(best, found) : found;
  }
  return best;
}

}  // namespace

int default_threads() {
  const int affinity = cores_by_affinity(), quota = cores_by_quota();
  return std::clamp(quota > 0 ? std::min(affinity, quota) : affinity, 1, ThreadPool::kMaxThreads);
}

}  // namespace mtfa
