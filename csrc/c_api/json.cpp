#include "c_api/json.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <locale>
#include <sstream>

namespace mtfa {
namespace {

constexpr int kDeepest = 32;  // nested arrays and objects; a weight file has four

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Json document() {
    Json value = this->value(0);
    space();
    if (at_ < text_.size()) fail("more after its end");
    return value;
  }

 private:
  [[noreturn]] void fail(const char* what) const {
    throw std::invalid_argument("JSON: " + std::string(what) + " at byte " + std::to_string(at_));
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void space() {
    while (at_ < text_.size() && (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r')) ++at_;
  }
  void expect(char c) {
    space();
    if (at_ >= text_.size() || peek() != c) fail((std::string("no '") + c + "'").c_str());
    ++at_;
  }
  // After one element of a list: true for another one, false at its end.
  bool more(char end) {
    space();
    if (peek() == ',') return ++at_, true;
    expect(end);
    return false;
  }
  void word(std::string_view wanted) {
    if (text_.substr(at_, wanted.size()) != wanted) fail("no value");
    at_ += wanted.size();
  }

  Json value(int depth) {
    if (depth > kDeepest) fail("nested too deep");
    space();
    Json json;
    switch (peek()) {
      case '{':
        json.kind = Json::Kind::object;
        object(json, depth);
        break;
      case '[':
        json.kind = Json::Kind::array;
        ++at_;
        space();
        if (peek() == ']') return ++at_, json;
        do json.array.push_back(value(depth + 1));
        while (more(']'));
        break;
      case '"':
        json.kind = Json::Kind::string;
        json.string = string();
        break;
      case 't':
        word("true");
        json.kind = Json::Kind::boolean, json.boolean = true;
        break;
      case 'f':
        word("false");
        json.kind = Json::Kind::boolean;
        break;
      case 'n':
        word("null");
        break;
      default:
        number(json);
    }
    return json;
  }

  void object(Json& json, int depth) {
    ++at_;
    space();
    if (peek() == '}') {
      ++at_;
      return;
    }
    do {
      space();
      std::string key = string();
      expect(':');
      if (!json.object.emplace(std::move(key), value(depth + 1)).second) fail("a key for the second time");
    } while (more('}'));
  }

  bool digits() {
    const size_t from = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    return at_ > from;
  }

  void number(Json& json) {
    const size_t from = at_;
    if (peek() == '-') ++at_;
    const size_t first = at_;
    if (!digits()) fail("no value");
    if (text_[first] == '0' && at_ > first + 1) fail("a number that begins with 0");
    bool whole = true;
    if (peek() == '.') {
      whole = false, ++at_;
      if (!digits()) fail("no digit");
    }
    if (peek() == 'e' || peek() == 'E') {
      whole = false, ++at_;
      if (peek() == '+' || peek() == '-') ++at_;
      if (!digits()) fail("no digit");
    }
    const std::string text(text_.substr(from, at_ - from));
    json.kind = Json::Kind::number;
    if (whole) {
      const auto end = std::from_chars(text.data(), text.data() + text.size(), json.whole);
      json.integer = end.ec == std::errc();
    }
    // Not strtod, which reads the numbers of the program's own locale.
    std::istringstream stream(text);
    stream.imbue(std::locale::classic());
    if (!(stream >> json.number) || !std::isfinite(json.number)) fail("a number that is too large");
  }

  unsigned hex4() {
    unsigned code = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char c = peek();
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) fail("no hexadecimal digit");
      code = code * 16 + static_cast<unsigned>(digit);
    }
    return code;
  }

  static void append_utf8(std::string& out, unsigned code) {
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else if (code < 0x800) {
      out += static_cast<char>(0xc0 | code >> 6);
      out += static_cast<char>(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
      out += static_cast<char>(0xe0 | code >> 12);
      out += static_cast<char>(0x80 | (code >> 6 & 0x3f));
      out += static_cast<char>(0x80 | (code & 0x3f));
    } else {
      out += static_cast<char>(0xf0 | code >> 18);
      out += static_cast<char>(0x80 | (code >> 12 & 0x3f));
      out += static_cast<char>(0x80 | (code >> 6 & 0x3f));
      out += static_cast<char>(0x80 | (code & 0x3f));
    }
  }

  void escape(std::string& out) {
    const char c = peek();
    ++at_;
    switch (c) {
      case '"':
      case '\\':
      case '/':
        out += c;
        return;
      case 'b':
        out += '\b';
        return;
      case 'f':
        out += '\f';
        return;
      case 'n':
        out += '\n';
        return;
      case 'r':
        out += '\r';
        return;
      case 't':
        out += '\t';
        return;
      case 'u':
        break;
      default:
        fail("an unknown escape");
    }
    unsigned code = hex4();
    if (code >= 0xd800 && code < 0xdc00 && text_.substr(at_, 2) == "\\u") {
      at_ += 2;
      const unsigned low = hex4();
      if (low < 0xdc00 || low > 0xdfff) fail("half a surrogate pair");
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    if (code >= 0xd800 && code <= 0xdfff) fail("half a surrogate pair");
    append_utf8(out, code);
  }

  // One character beyond ASCII, as it is written.
  void utf8(std::string& out) {
    const unsigned lead = static_cast<unsigned char>(peek());
    const int length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || text_.size() - at_ < static_cast<size_t>(length)) fail("no UTF-8");
    unsigned code = lead & (0x7fu >> length);
    for (int i = 1; i < length; ++i) {
      const unsigned next = static_cast<unsigned char>(text_[at_ + static_cast<size_t>(i)]);
      if ((next & 0xc0) != 0x80) fail("no UTF-8");
      code = code << 6 | (next & 0x3f);
    }
    const unsigned smallest = length == 2 ? 0x80 : length == 3 ? 0x800 : 0x10000;
    if (code < smallest || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) fail("no UTF-8");
    out += text_.substr(at_, static_cast<size_t>(length));
    at_ += static_cast<size_t>(length);
  }

  std::string string() {
    if (peek() != '"') fail("no string");
    ++at_;
    std::string out;
    for (;;) {
      if (at_ >= text_.size()) fail("a string without end");
      const unsigned char c = static_cast<unsigned char>(text_[at_]);
      if (c == '"') return ++at_, out;
      if (c < 0x20) fail("a control character in a string");
      if (c == '\\') {
        ++at_;
        escape(out);
      } else if (c < 0x80) {
        out += static_cast<char>(c), ++at_;
      } else {
        utf8(out);
      }
    }
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

Json parse_json(std::string_view text) { return Parser(text).document(); }

}  // namespace mtfa
