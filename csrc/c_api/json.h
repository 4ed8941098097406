// JSON as RFC 8259 has it and nothing beyond: no comments, no NaN, no repeated keys, valid UTF-8.
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace mtfa {

struct Json {
  enum class Kind { null, boolean, number, string, array, object };

  Kind kind = Kind::null;
  bool boolean = false;
  double number = 0;
  bool integer = false;  // written without fraction and exponent, and held by `whole`
  int64_t whole = 0;
  std::string string{};
  std::vector<Json> array{};
  std::map<std::string, Json> object{};
};

// Throws std::invalid_argument with the position of what is wrong.
Json parse_json(std::string_view text);

}  // namespace mtfa
