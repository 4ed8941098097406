// Handles and errors of the C API: what keeps a mistake of the caller, and an exception of the core, on its own side.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <unordered_map>

#include "c_api/mtfa_fast.h"
#include "c_api/weight_file.h"

namespace mtfa {

struct Failure : std::runtime_error {
  Failure(mtfa_status code, const std::string& text) : std::runtime_error(text), status(code) {}
  mtfa_status status;
};

inline uintptr_t next_handle() {
  static std::atomic<uintptr_t> last{0};
  return ++last;
}

// Objects by handles that are numbers, never given out twice by any table: to look a closed one up finds nothing, where
// to follow a pointer would read freed memory.
template <class T>
class Handles {
 public:
  explicit Handles(const char* kind) : kind_(kind) {}

  uintptr_t add(std::shared_ptr<T> object) {
    const uintptr_t handle = next_handle();
    std::lock_guard<std::mutex> lock(mutex_);
    objects_.emplace(handle, std::move(object));
    return handle;
  }
  // Throws Failure for what is no open handle of this kind. The object lives as long as the caller holds it.
  std::shared_ptr<T> get(const void* handle) const {
    std::lock_guard<std::mutex> lock(mutex_);
    return objects_.at(found(handle));
  }
  void close(const void* handle) {
    if (!handle) return;
    std::shared_ptr<T> last;  // destroyed outside the lock
    std::lock_guard<std::mutex> lock(mutex_);
    const auto at = objects_.find(found(handle));
    last = std::move(at->second);
    objects_.erase(at);
  }

 private:
  uintptr_t found(const void* handle) const {
    const auto key = reinterpret_cast<uintptr_t>(handle);
    if (!objects_.count(key)) {
      throw Failure(MTFA_ERROR_HANDLE, std::string(kind_) + ": got " +
                                           (handle ? "a closed or foreign handle" : "NULL") +
                                           ", allowed: an open handle");
    }
    return key;
  }

  const char* const kind_;
  mutable std::mutex mutex_;
  std::unordered_map<uintptr_t, std::shared_ptr<T>> objects_;
};

// Of fixed size: to say that there is no memory must not need any.
inline char* error_text() {
  static thread_local char text[512] = "";
  return text;
}

inline mtfa_status failed(mtfa_status status, const char* text) noexcept {
  std::snprintf(error_text(), 512, "%s", text);
  return status;
}

// Runs the body of one function of the API.
template <class F>
mtfa_status guarded(F&& body) noexcept {
  try {
    body();
    error_text()[0] = '\0';
    return MTFA_OK;
  } catch (const Failure& error) {
    return failed(error.status, error.what());
  } catch (const FileError& error) {
    return failed(MTFA_ERROR_FILE, error.what());
  } catch (const WeightError& error) {
    return failed(MTFA_ERROR_WEIGHTS, error.what());
  } catch (const std::invalid_argument& error) {
    return failed(MTFA_ERROR_ARGUMENT, error.what());
  } catch (const std::bad_alloc&) {
    return failed(MTFA_ERROR_MEMORY, "not enough memory");
  } catch (const std::length_error&) {  // a container that no memory could hold
    return failed(MTFA_ERROR_MEMORY, "not enough memory");
  } catch (const std::exception& error) {
    return failed(MTFA_ERROR_INTERNAL, error.what());
  } catch (...) {
    return failed(MTFA_ERROR_INTERNAL, "an unknown exception");
  }
}

}  // namespace mtfa
