// The weight reader and the folding under libFuzzer, from the project's root:
//
//   clang++ -std=c++17 -g -O1 -fsanitize=fuzzer,address,undefined -Icsrc csrc/c_api/{json,config,weight_file}.cpp
//     csrc/core/{weights,fold}.cpp tests/c_api/fuzz/weight_file_fuzz.cpp -o fuzz
//   ./fuzz -max_len=65536 build/corpus tests/c_api/fuzz/corpus
//
// With MTFA_FUZZ_MAIN it is a program that takes files, so that the corpus can be run without libFuzzer.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "c_api/weight_file.h"
#include "core/fold.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mtfa::WeightFile file;
  try {
    file = mtfa::parse_weights(data, size);
  } catch (const mtfa::WeightError&) {
    return 0;
  }
  // What was taken can be folded, and holds every tensor that the engine asks for.
  const mtfa::Folded folded = mtfa::fold(file.tensors);
  if (folded.tensors.all().empty()) std::abort();
  return 0;
}

#ifdef MTFA_FUZZ_MAIN
int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    std::FILE* file = std::fopen(argv[i], "rb");
    if (!file) return 2;
    std::vector<uint8_t> bytes(1 << 20);
    bytes.resize(std::fread(bytes.data(), 1, bytes.size(), file));
    bytes.shrink_to_fit();  // so that reading past the end is seen
    std::fclose(file);
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  std::printf("%d files\n", argc - 1);
}
#endif
