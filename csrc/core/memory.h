// An array on cache-line boundaries, zero-filled.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>

namespace mtfa {

template <class T>
class AlignedArray {
 public:
  AlignedArray() = default;
  explicit AlignedArray(size_t size)
      : data_(static_cast<T*>(::operator new[](size * sizeof(T), std::align_val_t(64)))), size_(size) {
    std::memset(static_cast<void*>(data_.get()), 0, size * sizeof(T));
  }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  size_t size() const { return size_; }
  T& operator[](size_t i) { return data_.get()[i]; }
  const T& operator[](size_t i) const { return data_.get()[i]; }

 private:
  struct Free {
    void operator()(T* p) const { ::operator delete[](p, std::align_val_t(64)); }
  };
  std::unique_ptr<T, Free> data_;
  size_t size_ = 0;
};

}  // namespace mtfa
