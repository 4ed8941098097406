/* The frame probabilities of raw float32 samples: probabilities WEIGHTS SAMPLES OUT ISA PRECISION THREADS. Prints what
 * ran; for the instruction sets of other machines, under an emulator. */
#include <stdio.h>
#include <stdlib.h>

#include "mtfa_fast.h"

int main(int argc, char** argv) {
  mtfa_options options = {sizeof(mtfa_options), 0, NULL, NULL};
  mtfa_info info = {0};
  mtfa_detector* detector = NULL;
  mtfa_result* result = NULL;
  const float* probabilities = NULL;
  size_t size, frames = 0, classes = 0;
  float* samples = malloc(1 << 24);
  FILE* file;
  if (argc != 7 || !samples || !(file = fopen(argv[2], "rb"))) return 2;
  size = fread(samples, sizeof(float), (1 << 24) / sizeof(float), file);
  fclose(file);
  options.isa = argv[4], options.precision = argv[5], options.threads = atoi(argv[6]);
  info.struct_size = sizeof info;
  if (mtfa_open(argv[1], &options, &detector) || mtfa_get_info(detector, &info) ||
      mtfa_detect(detector, samples, size, info.sample_rate, &result) ||
      mtfa_result_probabilities(result, &probabilities, &frames, &classes)) {
    fprintf(stderr, "%s\n", mtfa_last_error());
    return 1;
  }
  file = fopen(argv[3], "wb");
  if (!file || fwrite(probabilities, sizeof(float), frames * classes, file) != frames * classes || fclose(file))
    return 2;
  printf("%s %s %d\n", info.isa, info.precision, (int)info.threads);
  free(samples);
  return mtfa_result_close(result) || mtfa_close(detector);
}
