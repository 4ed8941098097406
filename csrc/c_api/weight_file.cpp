#include "c_api/weight_file.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string_view>

#include "c_api/json.h"

namespace mtfa {
namespace {

constexpr size_t kPrefix = 8;                     // bytes that hold the header's length
const std::string kSteps = "int8.";               // what the names of 8-bit arithmetic's tensors begin with
constexpr uint64_t kLongestHeader = 100'000'000;  // as the safetensors library has it
constexpr int64_t kLargestFile = int64_t{4} << 30;

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "weight files are little-endian"
#endif

uint64_t header_length(const char* bytes) {
  uint64_t length;
  std::memcpy(&length, bytes, sizeof length);
  return length;
}

// What can be told from the first nine bytes of a file of this size.
void check_start(const char* bytes, uint64_t size) {
  if (size < kPrefix + 2) {
    throw WeightError("weights: got " + std::to_string(size) + " bytes, allowed: a safetensors file");
  }
  const uint64_t length = header_length(bytes);
  if (bytes[kPrefix] != '{') throw WeightError("weights: not a safetensors file: no header at its start");
  if (length > kLongestHeader || length > size - kPrefix) {
    throw WeightError("weights: not a safetensors file, or cut off: a header of " + std::to_string(length) +
                      " bytes in a file of " + std::to_string(size));
  }
}

std::string text_of(const std::vector<int64_t>& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

const Json& member(const Json& json, const std::string& name, Json::Kind kind, const std::string& where) {
  const auto found = json.object.find(name);
  if (found == json.object.end() || found->second.kind != kind) throw WeightError(where + ": bad or missing " + name);
  return found->second;
}

// A list of integers >= 0.
std::vector<int64_t> integers(const Json& json, const std::string& where) {
  std::vector<int64_t> values;
  for (const Json& one : json.array) {
    if (!one.integer || one.whole < 0) throw WeightError(where + ": no list of integers >= 0");
    values.push_back(one.whole);
  }
  return values;
}

Config config_of(const Json& header) {
  const auto found = header.object.find("__metadata__");
  std::map<std::string, std::string> facts = {{"format", ""}, {"format_version", ""}, {"config", ""}};
  if (found != header.object.end()) {
    for (auto& [name, value] : facts) {
      const auto fact = found->second.object.find(name);
      if (fact != found->second.object.end()) value = fact->second.string;
    }
  }
  if (facts["format"] != "mtfa-fast" || facts["format_version"] != "1") {
    throw WeightError("format: got '" + facts["format"] + "' version '" + facts["format_version"] +
                      "', allowed: 'mtfa-fast' version '1'");
  }
  return parse_config(facts["config"]);
}

void check_values(const std::string& name, const std::vector<float>& values) {
  const auto ends_with = [&](std::string_view end) {
    return name.size() >= end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0;
  };
  const bool positive = name == "std", not_negative = ends_with("running_var");
  for (float value : values) {
    if (!std::isfinite(value)) throw WeightError("tensor " + name + ": got NaN or infinity, allowed: finite numbers");
    if (positive && value <= 0) throw WeightError("tensor std: got " + std::to_string(value) + ", allowed: > 0");
    if (not_negative && value < 0) {
      throw WeightError("tensor " + name + ": got " + std::to_string(value) + ", allowed: >= 0");
    }
  }
}

struct Entry {
  std::string type;
  std::vector<int64_t> shape, offsets;
};

Entry entry_of(const Json& json, const std::string& where) {
  return {member(json, "dtype", Json::Kind::string, where).string,
          integers(member(json, "shape", Json::Kind::array, where), where),
          integers(member(json, "data_offsets", Json::Kind::array, where), where)};
}

// Returns `wanted`, the bytes of the tensor.
uint64_t read_values(std::vector<float>& values, const char* data, uint64_t data_size, const Entry& entry,
                     uint64_t wanted, const std::string& where) {
  const std::vector<int64_t>& offsets = entry.offsets;
  if (entry.type != "F32") throw WeightError(where + ": got " + entry.type + ", allowed: F32");
  if (offsets.size() != 2 || offsets[0] > offsets[1] || static_cast<uint64_t>(offsets[1]) > data_size ||
      static_cast<uint64_t>(offsets[1] - offsets[0]) != wanted) {
    throw WeightError(where + ": not all of its " + std::to_string(wanted) + " bytes are there");
  }
  values.resize(static_cast<size_t>(wanted / sizeof(float)));
  std::memcpy(values.data(), data + offsets[0], static_cast<size_t>(wanted));
  return wanted;
}

WeightFile parse(const char* bytes, uint64_t size) {
  check_start(bytes, size);
  const uint64_t length = header_length(bytes);
  const char* data = bytes + kPrefix + length;
  const uint64_t data_size = size - kPrefix - length;
  const Json header = parse_json({bytes + kPrefix, static_cast<size_t>(length)});
  WeightFile file;
  file.config = config_of(header);

  const auto expected = expected_shapes(file.config);
  uint64_t total = 0;
  for (const auto& [name, shape] : expected) {
    const std::string where = "tensor " + name;
    const auto found = header.object.find(name);
    if (found == header.object.end()) throw WeightError(where + ": missing");
    const Entry entry = entry_of(found->second, where);
    if (entry.type != "F32" || entry.shape != shape) {
      throw WeightError(where + ": got " + entry.type + " " + text_of(entry.shape) + ", allowed: F32 " +
                        text_of(shape));
    }
    // The sides of a shape that a config allows are too small for this to wrap around, and it is checked against the
    // bytes that are there before memory is asked for.
    const uint64_t wanted = static_cast<uint64_t>(Tensor{nullptr, shape}.size()) * sizeof(float);
    std::vector<float>& values = file.values[name];
    total += read_values(values, data, data_size, entry, wanted, where);
    check_values(name, values);
    file.tensors.add(name, {values.data(), shape});
  }
  for (const auto& [name, entry] : header.object) {
    if (name.compare(0, kSteps.size(), kSteps) == 0) {  // which of them there must be, and how large, the engine knows
      const std::string where = "tensor " + name;
      const Entry found = entry_of(entry, where);
      uint64_t wanted = sizeof(float);
      for (int64_t side : found.shape) {
        if (side == 0 || static_cast<uint64_t>(side) > data_size / wanted) throw WeightError(where + ": damaged shape");
        wanted *= static_cast<uint64_t>(side);
      }
      total += read_values(file.values[name], data, data_size, found, wanted, where);
      file.steps.add(name, {file.values[name].data(), found.shape});
      continue;
    }
    if (name != "__metadata__" && !file.values.count(name)) throw WeightError("tensor " + name + ": unknown");
  }
  if (total != data_size) {
    throw WeightError("weights: got " + std::to_string(data_size) +
                      " bytes of tensors, allowed: " + std::to_string(total));
  }
  return file;
}

}  // namespace

WeightFile parse_weights(const void* bytes, size_t size) {
  try {
    return parse(static_cast<const char*>(bytes), size);
  } catch (const std::invalid_argument& error) {  // of the header or the config
    throw WeightError(std::string("weights: ") + error.what());
  }
}

std::vector<char> read_weights(const char* path) {
  const auto failed = [&](const char* what) {
    return FileError(std::string(path) + ": " + what + ": " + std::strerror(errno));
  };
  errno = 0;
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path, "rb"), &std::fclose);
  if (!file) throw failed("cannot be opened");
  char start[kPrefix + 1];
  const size_t read = std::fread(start, 1, sizeof start, file.get());
  if (std::ferror(file.get())) throw failed("cannot be read");
  // The end first, then all of it: what is no weight file is refused by its start, however long it is.
  if (std::fseek(file.get(), 0, SEEK_END) != 0) throw failed("has no end");
  const int64_t end = std::ftell(file.get());
  if (end < 0 || end > kLargestFile)
    throw WeightError("weights: got a file of more than 4 GiB, allowed: a weight file");
  check_start(start,
              std::min<uint64_t>(read < sizeof start ? read : static_cast<uint64_t>(end), static_cast<uint64_t>(end)));
  std::rewind(file.get());
  std::vector<char> bytes(static_cast<size_t>(end));
  if (std::fread(bytes.data(), 1, bytes.size(), file.get()) != bytes.size()) throw failed("cannot be read");
  return bytes;
}

}  // namespace mtfa
