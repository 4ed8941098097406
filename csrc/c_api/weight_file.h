// The weight file, read and checked: a safetensors file as mtfa_fast/weights/file.py writes it. The format is eight
// bytes of length, a JSON header and plain float32, so a reader costs less than a second format would: what the Python
// package trains, tunes and downloads is opened as it is, and nothing has to be exported, kept beside or renewed.
#pragma once

#include <cstddef>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "c_api/config.h"

namespace mtfa {

// The file cannot be read.
struct FileError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
// What was read is no weight file of a detector.
struct WeightError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct WeightFile {
  Config config;
  std::map<std::string, std::vector<float>> values;
  Tensors tensors;  // into `values`
  Tensors steps;    // of 8-bit arithmetic, into `values`; none where the file was not prepared for it
};

// Throws WeightError, naming what is wrong: complete, of the shapes that the config asks for, and finite it must be.
WeightFile parse_weights(const void* bytes, size_t size);
// The bytes of a file. Throws FileError; WeightError where its first bytes are no safetensors header.
std::vector<char> read_weights(const char* path);

}  // namespace mtfa
