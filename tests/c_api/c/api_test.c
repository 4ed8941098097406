/* What only a program can do to the C API: api_test WEIGHTS SAMPLES, raw float32 at the weights' rate. Says each check
 * that fails, and ends with their number. Run by test_c_api.py, also under valgrind, by hand under sanitizers. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mtfa_fast.h"

enum { THREADS = 8 };

static int failures = 0;

static void check(int good, const char* text, int line) {
  if (!good) fprintf(stderr, "line %d: %s: \"%s\"\n", line, text, mtfa_last_error()), ++failures;
}
#define CHECK(condition) check((condition) != 0, #condition, __LINE__)
/* Refused with this status, and in words. */
#define REFUSED(status, words, call) CHECK((call) == (status) && strstr(mtfa_last_error(), words) != NULL)

static const char* path;
static float* samples;
static size_t sample_count;
static mtfa_info info;

static void* read_file(const char* name, size_t* size) {
  FILE* file = fopen(name, "rb");
  void* bytes = malloc(1 << 24);
  *size = file && bytes ? fread(bytes, 1, 1 << 24, file) : 0;
  if (file) fclose(file);
  return bytes;
}

typedef struct {
  mtfa_detector* detector;
  const float* expected;
  size_t size;
  int equal;
} Job;

static void* detect_and_compare(void* argument) {
  Job* job = argument;
  const float* probabilities = NULL;
  size_t frames = 0, classes = 0;
  mtfa_result* result = NULL;
  job->equal = mtfa_detect(job->detector, samples, sample_count, info.sample_rate, &result) == MTFA_OK &&
               mtfa_result_probabilities(result, &probabilities, &frames, &classes) == MTFA_OK &&
               frames * classes == job->size && memcmp(probabilities, job->expected, job->size * sizeof(float)) == 0 &&
               mtfa_result_close(result) == MTFA_OK;
  return NULL;
}

static void many_threads(mtfa_detector* detector, const float* expected, size_t size) {
  pthread_t threads[THREADS];
  Job jobs[THREADS];
  int i;
  for (i = 0; i < THREADS; ++i) {
    jobs[i].detector = detector, jobs[i].expected = expected, jobs[i].size = size, jobs[i].equal = 0;
    CHECK(pthread_create(&threads[i], NULL, detect_and_compare, &jobs[i]) == 0);
  }
  for (i = 0; i < THREADS; ++i) {
    pthread_join(threads[i], NULL);
    CHECK(jobs[i].equal);
  }
}

static void in_blocks(mtfa_detector* detector, const float* expected, size_t size) {
  const float* probabilities = NULL;
  size_t frames = 0, classes = 0, done, block = 1;
  mtfa_recording* recording = NULL;
  mtfa_result* result = NULL;
  CHECK(mtfa_recording_open(detector, info.sample_rate, &recording) == MTFA_OK);
  REFUSED(MTFA_ERROR_ARGUMENT, "no sample", mtfa_recording_finish(recording, &result));
  CHECK(mtfa_recording_push(recording, NULL, 0) == MTFA_OK);
  for (done = 0; done < sample_count; done += block, block = block * 3 + 1) {
    if (block > sample_count - done) block = sample_count - done;
    CHECK(mtfa_recording_push(recording, samples + done, block) == MTFA_OK);
  }
  CHECK(mtfa_recording_finish(recording, &result) == MTFA_OK);
  CHECK(mtfa_result_probabilities(result, &probabilities, &frames, &classes) == MTFA_OK);
  CHECK(frames * classes == size && memcmp(probabilities, expected, size * sizeof(float)) == 0);
  REFUSED(MTFA_ERROR_STATE, "finished", mtfa_recording_push(recording, samples, 1));
  REFUSED(MTFA_ERROR_STATE, "finished", mtfa_recording_finish(recording, &result));
  CHECK(result == NULL);
  CHECK(mtfa_recording_close(recording) == MTFA_OK);
}

/* With a look-ahead beyond the recording's end the live answer is the whole one's. */
static void live(mtfa_detector* detector, const float* expected, size_t size) {
  const mtfa_live_event* events = NULL;
  const float* probabilities = NULL;
  size_t count = 0, frames = 0, classes = 0, seen = 0, done, block;
  int64_t delay = 0;
  int step;
  mtfa_live* stream = NULL;
  CHECK(mtfa_live_open(detector, info.sample_rate, 8, 65536, &delay, &stream) == MTFA_OK && delay > 65536);
  REFUSED(MTFA_ERROR_ARGUMENT, "no sample", mtfa_live_finish(stream, &events, &count));
  for (done = 0, step = 0; step < 12; done += block, ++step) {
    block = step < 11 ? sample_count / 11 : sample_count - done;
    if (step < 11) {
      CHECK(mtfa_live_push(stream, samples + done, block, &events, &count) == MTFA_OK);
    } else {
      CHECK(mtfa_live_push(stream, samples + done, block, &events, &count) == MTFA_OK);
      CHECK(mtfa_live_probabilities(stream, &probabilities, &frames, &classes) == MTFA_OK);
      seen = frames * classes;
      CHECK(mtfa_live_finish(stream, &events, &count) == MTFA_OK);
    }
  }
  CHECK(mtfa_live_probabilities(stream, &probabilities, &frames, &classes) == MTFA_OK);
  CHECK(seen + frames * classes == size &&
        memcmp(probabilities, expected + seen, frames * classes * sizeof(float)) == 0);
  REFUSED(MTFA_ERROR_STATE, "finished", mtfa_live_push(stream, samples, 1, &events, &count));
  REFUSED(MTFA_ERROR_STATE, "finished", mtfa_live_finish(stream, &events, &count));
  CHECK(mtfa_live_close(stream) == MTFA_OK);
  REFUSED(MTFA_ERROR_HANDLE, "closed", mtfa_live_probabilities(stream, &probabilities, &frames, &classes));
  for (step = 0; step < 4; ++step) {
    static const int64_t shapes[4][2] = {{0, 40}, {12, 40}, {16, -8}, {INT64_MAX, 40}};
    REFUSED(MTFA_ERROR_ARGUMENT, "allowed",
            mtfa_live_open(detector, info.sample_rate, shapes[step][0], shapes[step][1], NULL, &stream));
    CHECK(stream == NULL);
  }
}

static void bad_samples(mtfa_detector* detector) {
  static const size_t sizes[] = {((size_t)1 << 40) + 1, (size_t)1 << 63, SIZE_MAX};
  const int64_t rate = info.sample_rate, rates[] = {0, -1, rate + 1, INT64_MIN, INT64_MAX};
  float block[3] = {0, 0, 0};
  mtfa_result* result = NULL;
  mtfa_recording* recording = NULL;
  size_t i;
  REFUSED(MTFA_ERROR_ARGUMENT, "samples: got NULL", mtfa_detect(detector, NULL, 3, rate, &result));
  REFUSED(MTFA_ERROR_ARGUMENT, "result: got NULL", mtfa_detect(detector, block, 3, rate, NULL));
  REFUSED(MTFA_ERROR_ARGUMENT, "count: got 0", mtfa_detect(detector, block, 0, rate, &result));
  REFUSED(MTFA_ERROR_ARGUMENT, "out: got NULL", mtfa_log_mel(detector, block, 3, rate, NULL, 1000));
  REFUSED(MTFA_ERROR_ARGUMENT, "capacity: got 2", mtfa_log_mel(detector, block, 3, rate, block, 2));
  for (i = 0; i < sizeof sizes / sizeof *sizes; ++i) {
    REFUSED(MTFA_ERROR_ARGUMENT, "count: got", mtfa_detect(detector, block, sizes[i], rate, &result));
    REFUSED(MTFA_ERROR_ARGUMENT, "count: got", mtfa_log_mel(detector, block, sizes[i], rate, block, SIZE_MAX));
  }
  for (i = 0; i < sizeof rates / sizeof *rates; ++i) {
    REFUSED(MTFA_ERROR_ARGUMENT, "sample_rate: got", mtfa_detect(detector, block, 3, rates[i], &result));
    REFUSED(MTFA_ERROR_ARGUMENT, "sample_rate: got", mtfa_recording_open(detector, rates[i], &recording));
  }
  block[1] = NAN;
  REFUSED(MTFA_ERROR_ARGUMENT, "at 1, allowed: finite", mtfa_detect(detector, block, 3, rate, &result));
  block[1] = -INFINITY;
  REFUSED(MTFA_ERROR_ARGUMENT, "at 1, allowed: finite", mtfa_detect(detector, block, 3, rate, &result));
  CHECK(result == NULL && recording == NULL);
}

static void bad_weights(void) {
  size_t size, i;
  char* bytes = read_file(path, &size);
  mtfa_detector* detector = NULL;
  mtfa_options options;
  REFUSED(MTFA_ERROR_ARGUMENT, "path: got NULL", mtfa_open(NULL, NULL, &detector));
  REFUSED(MTFA_ERROR_ARGUMENT, "detector: got NULL", mtfa_open(path, NULL, NULL));
  REFUSED(MTFA_ERROR_ARGUMENT, "bytes: got NULL", mtfa_open_memory(NULL, size, NULL, &detector));
  REFUSED(MTFA_ERROR_ARGUMENT, "size: got", mtfa_open_memory(bytes, (size_t)1 << 63, NULL, &detector));
  REFUSED(MTFA_ERROR_WEIGHTS, "0 bytes", mtfa_open_memory(bytes, 0, NULL, &detector));
  REFUSED(MTFA_ERROR_FILE, "no such file.safetensors", mtfa_open("no such file.safetensors", NULL, &detector));
  REFUSED(MTFA_ERROR_FILE, "/", mtfa_open("/", NULL, &detector));
  for (i = 1; i < size; i = i * 3 / 2 + 1) CHECK(mtfa_open_memory(bytes, i, NULL, &detector) == MTFA_ERROR_WEIGHTS);
  CHECK(mtfa_open_memory(bytes, size - 1, NULL, &detector) == MTFA_ERROR_WEIGHTS);
  memset(&options, 0, sizeof options);
  REFUSED(MTFA_ERROR_ARGUMENT, "struct_size: got 0", mtfa_open_memory(bytes, size, &options, &detector));
  options.struct_size = sizeof options;
  options.threads = -1;
  REFUSED(MTFA_ERROR_ARGUMENT, "threads: got -1", mtfa_open_memory(bytes, size, &options, &detector));
  options.threads = 1025;
  REFUSED(MTFA_ERROR_ARGUMENT, "threads: got 1025", mtfa_open_memory(bytes, size, &options, &detector));
  options.threads = 1;
  options.isa = "z80";
  REFUSED(MTFA_ERROR_ARGUMENT, "'z80'", mtfa_open_memory(bytes, size, &options, &detector));
  options.isa = "portable";
  options.precision = "fp64";
  REFUSED(MTFA_ERROR_ARGUMENT, "precision: got 'fp64'", mtfa_open_memory(bytes, size, &options, &detector));
  CHECK(detector == NULL);
  options.precision = "fp32";
  CHECK(mtfa_open_memory(bytes, size, &options, &detector) == MTFA_OK);
  CHECK(mtfa_close(detector) == MTFA_OK);
  free(bytes);
}

static void decisions(mtfa_result* result) {
  const mtfa_event* events = NULL;
  size_t count = 0, i;
  REFUSED(MTFA_ERROR_ARGUMENT, "class_index", mtfa_result_decide(result, info.class_count, 0.5, 27, 0));
  REFUSED(MTFA_ERROR_ARGUMENT, "class_index", mtfa_result_decide(result, SIZE_MAX, 0.5, 27, 0));
  REFUSED(MTFA_ERROR_ARGUMENT, "threshold", mtfa_result_decide(result, 0, 1.5, 27, 0));
  REFUSED(MTFA_ERROR_ARGUMENT, "threshold", mtfa_result_decide(result, 0, NAN, 27, 0));
  REFUSED(MTFA_ERROR_ARGUMENT, "minimum_score", mtfa_result_decide(result, 0, 0.5, 27, -1));
  REFUSED(MTFA_ERROR_ARGUMENT, "filter_frames", mtfa_result_decide(result, 0, 0.5, 26, 0));
  REFUSED(MTFA_ERROR_ARGUMENT, "filter_frames", mtfa_result_decide(result, 0, 0.5, -1, 0));
  for (i = 0; i < info.class_count; ++i) CHECK(mtfa_result_decide(result, i, 0, 1, 0) == MTFA_OK);
  CHECK(mtfa_result_events(result, &events, &count) == MTFA_OK && count == info.class_count);
  for (i = 0; i < count; ++i) CHECK(events[i].onset == 0 && events[i].score > 0 && strlen(events[i].label) > 0);
  for (i = 0; i < info.class_count; ++i) CHECK(mtfa_result_decide(result, i, 0, INT64_MAX, 0) == MTFA_OK);
  CHECK(mtfa_result_events(result, &events, &count) == MTFA_OK && count == 0);
}

int main(int argc, char** argv) {
  const float* probabilities = NULL;
  size_t frames = 0, classes = 0, count = 0;
  const mtfa_event* events = NULL;
  mtfa_detector *detector = NULL, *again = NULL;
  mtfa_result* result = NULL;
  mtfa_info small;

  if (argc != 3) return 2;
  path = argv[1];
  samples = read_file(argv[2], &sample_count);
  sample_count /= sizeof(float);
  CHECK(mtfa_abi() == MTFA_FAST_ABI && strlen(mtfa_version()) > 0);
  CHECK(mtfa_open(path, NULL, &detector) == MTFA_OK && *mtfa_last_error() == '\0');
  info.struct_size = sizeof info;
  CHECK(mtfa_get_info(detector, &info) == MTFA_OK && info.class_count > 0 && info.threads > 0);
  small.struct_size = 8;
  REFUSED(MTFA_ERROR_ARGUMENT, "struct_size: got 8", mtfa_get_info(detector, &small));
  REFUSED(MTFA_ERROR_ARGUMENT, "info: got NULL", mtfa_get_info(detector, NULL));

  CHECK(mtfa_detect(detector, samples, sample_count, info.sample_rate, &result) == MTFA_OK);
  CHECK(mtfa_result_probabilities(result, &probabilities, &frames, &classes) == MTFA_OK);
  CHECK(frames == 1 + sample_count / (size_t)info.hop && classes == info.class_count);
  in_blocks(detector, probabilities, frames * classes);
  many_threads(detector, probabilities, frames * classes);
  live(detector, probabilities, frames * classes);
  bad_samples(detector);
  bad_weights();
  decisions(result);

  /* Handles: of another kind, closed, never given out. What came before lives on. */
  REFUSED(MTFA_ERROR_HANDLE, "foreign", mtfa_result_close((mtfa_result*)(void*)detector));
  CHECK(mtfa_close(detector) == MTFA_OK);
  CHECK(mtfa_result_events(result, &events, &count) == MTFA_OK);
  REFUSED(MTFA_ERROR_HANDLE, "closed", mtfa_close(detector));
  REFUSED(MTFA_ERROR_HANDLE, "closed", mtfa_get_info(detector, &info));
  CHECK(mtfa_open(path, NULL, &again) == MTFA_OK && again != detector);
  CHECK(mtfa_result_close(result) == MTFA_OK);
  REFUSED(MTFA_ERROR_HANDLE, "closed", mtfa_detect(detector, samples, 1, info.sample_rate, &result));
  CHECK(mtfa_close(again) == MTFA_OK);
  CHECK(mtfa_close(NULL) == MTFA_OK && mtfa_result_close(NULL) == MTFA_OK);
  REFUSED(MTFA_ERROR_HANDLE, "NULL", mtfa_get_info(NULL, &info));
  REFUSED(MTFA_ERROR_HANDLE, "closed", mtfa_get_info((mtfa_detector*)samples, &info));
  free(samples);
  if (failures) fprintf(stderr, "%d checks failed\n", failures);
  return failures ? 1 : 0;
}
