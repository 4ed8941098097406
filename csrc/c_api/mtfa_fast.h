/* mtfa-fast for C, C++ and every language that calls C: sound in, sound events out. C99; no other header is needed.
 *
 *   mtfa_detector* detector;
 *   mtfa_result* result;
 *   const mtfa_event* events;
 *   size_t count;
 *   if (mtfa_open("rare-events.safetensors", NULL, &detector) != MTFA_OK) return fail(mtfa_last_error());
 *   mtfa_detect(detector, samples, sample_count, 44100, &result);
 *   mtfa_result_events(result, &events, &count);
 *   ...
 *   mtfa_result_close(result);
 *   mtfa_close(detector);
 *
 * ERRORS. Every function that can fail returns a status. mtfa_last_error() has the sentence that belongs to it: the
 * argument, what was given, what is allowed. Nothing throws through this boundary, ends the process or prints. Where a
 * function fails, what its pointers point to stays as it was, but for handles, which become NULL.
 *
 * OWNERSHIP. Handles come from mtfa_open*, mtfa_detect, mtfa_recording_* and mtfa_live_*, and each is given back once
 * to the mtfa_*_close of its kind; NULL is allowed there. A handle is no address: what was closed is never found
 * again, so its use is refused with MTFA_ERROR_HANDLE. Handles may be closed in any order; a result, a recording or
 * a live stream keeps what it needs of its detector. Strings and arrays that come out belong to the handle that they
 * came from, and live until it is closed (events of a result: until its next mtfa_result_decide, too; of a live stream:
 * until its next push). What you pass in is read during the call only.
 *
 * THREADS. Any number of threads may use one detector at once, and read one result; each call runs on the detector's
 * threads, and a call that finds them busy works alone. A recording, a live stream, and a result under
 * mtfa_result_decide belong to one thread at a time: where two meet, one waits. To close what another thread is using
 * is allowed, but ends the life of the pointers that it got. mtfa_last_error() is each thread's own. The
 * threads of a detector end with the last handle that needs it; when all are closed the library may be unloaded.
 * After fork(), in a moment without a call, the child starts threads of its own. No thread may be cancelled inside
 * a call.
 *
 * NUMBERS. A probability is what Python's package gives for the same file, samples, instruction set and precision, bit
 * for bit, whatever the number of threads and however the samples are cut into blocks. float is IEEE 754's binary32.
 *
 * VERSIONS. Within one MTFA_FAST_ABI functions are added and structs that begin with struct_size grow at their ends;
 * nothing else changes. The library's file name carries the number: libmtfa_fast.so.1. */
#ifndef MTFA_FAST_H
#define MTFA_FAST_H

#include <stddef.h>
#include <stdint.h>

#define MTFA_FAST_ABI 1

#ifndef MTFA_FAST_API
#if defined(__GNUC__)
#define MTFA_FAST_API __attribute__((visibility("default")))
#else
#define MTFA_FAST_API
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mtfa_status {
  MTFA_OK = 0,
  MTFA_ERROR_ARGUMENT = 1, /* an argument is not allowed */
  MTFA_ERROR_HANDLE = 2,   /* a handle is NULL, closed or was never given out */
  MTFA_ERROR_FILE = 3,     /* the weight file cannot be read */
  MTFA_ERROR_WEIGHTS = 4,  /* it was read, and is no weight file of a detector */
  MTFA_ERROR_STATE = 5,    /* not now: a recording or live stream that is finished */
  MTFA_ERROR_MEMORY = 6,
  MTFA_ERROR_INTERNAL = 7 /* a fault of this library: please report it with its text */
} mtfa_status;

typedef struct mtfa_detector mtfa_detector;
typedef struct mtfa_recording mtfa_recording;
typedef struct mtfa_result mtfa_result;
typedef struct mtfa_live mtfa_live;

/* The ABI of the library that runs, to be compared with MTFA_FAST_ABI, and the package's version, "0.1.0". */
MTFA_FAST_API int mtfa_abi(void);
MTFA_FAST_API const char* mtfa_version(void);

/* What went wrong in this thread's last call that returned a status; "" where nothing did. Until its next one. */
MTFA_FAST_API const char* mtfa_last_error(void);

/* --- the detector: one weight file --- */

typedef struct mtfa_options {
  size_t struct_size; /* sizeof(mtfa_options) */
  int32_t threads;    /* 1 to 1024; 0: the cores that this process may use */
  const char* isa;    /* "portable", "avx2", "avx512", "avx512bf16", "amx", "neonbf16"; NULL or "": MTFA_FAST_ISA of the
                         environment where it is set, else the best that this machine has */
  const char* precision; /* "fp32", "bf16", "int8" (weights that mtfa-fast quantize prepared); NULL, "" or "auto": bf16
                            where the CPU multiplies it, else fp32 */
} mtfa_options;

typedef struct mtfa_class {
  const char* name;      /* UTF-8 */
  double threshold;      /* a frame is active where its probability is greater ... */
  int64_t filter_frames; /* ... then a median filter of so many frames, an odd number ... */
  double minimum_score;  /* ... and events count whose highest probability is at least this */
} mtfa_class;

typedef struct mtfa_info {
  size_t struct_size;  /* sizeof(mtfa_info), set by the caller */
  int64_t sample_rate; /* that samples must have, in Hz */
  int64_t hop;         /* samples from one frame to the next: n samples give 1 + n / hop frames */
  int64_t mel_bands;
  size_t class_count;
  const mtfa_class* classes;
  int32_t threads;
  const char* isa; /* what runs */
  const char* precision;
} mtfa_info;

/* Opens a weight file of mtfa-fast (.safetensors), of format version 1, by its path or from memory. `options` may be
 * NULL: all defaults. */
MTFA_FAST_API mtfa_status mtfa_open(const char* path, const mtfa_options* options, mtfa_detector** detector);
MTFA_FAST_API mtfa_status mtfa_open_memory(const void* bytes, size_t size, const mtfa_options* options,
                                           mtfa_detector** detector);
MTFA_FAST_API mtfa_status mtfa_close(mtfa_detector* detector);
MTFA_FAST_API mtfa_status mtfa_get_info(mtfa_detector* detector, mtfa_info* info);

/* --- whole recordings --- */

/* `count` mono samples, 1 <= count <= 2^40, finite, at `sample_rate`, which must be the detector's: it is asked for
 * because nobody hears that a rate is wrong. */
MTFA_FAST_API mtfa_status mtfa_detect(mtfa_detector* detector, const float* samples, size_t count, int64_t sample_rate,
                                      mtfa_result** result);

/* The same in blocks of any size, 0 included, for recordings that need not be in memory at once. Each push runs the
 * network as far as the samples reach; finish makes the result and leaves the recording to be closed. */
MTFA_FAST_API mtfa_status mtfa_recording_open(mtfa_detector* detector, int64_t sample_rate, mtfa_recording** recording);
MTFA_FAST_API mtfa_status mtfa_recording_push(mtfa_recording* recording, const float* samples, size_t count);
MTFA_FAST_API mtfa_status mtfa_recording_finish(mtfa_recording* recording, mtfa_result** result);
MTFA_FAST_API mtfa_status mtfa_recording_close(mtfa_recording* recording);

typedef struct mtfa_event {
  const char* label;   /* the class's name */
  int64_t class_index; /* in the order of the file's classes */
  double onset;        /* seconds from the start */
  double offset;       /* seconds, at most the recording's length */
  float score;         /* highest frame probability, or what the weights' calibration makes of it: the share of such
                          events that are right */
} mtfa_event;

/* Events in order of onset. */
MTFA_FAST_API mtfa_status mtfa_result_events(mtfa_result* result, const mtfa_event** events, size_t* count);
/* Probabilities (frames, classes), row after row. */
MTFA_FAST_API mtfa_status mtfa_result_probabilities(mtfa_result* result, const float** probabilities, size_t* frames,
                                                    size_t* classes);
/* Decides one class of this result differently, without running the network again: 0 <= threshold, minimum_score <= 1,
 * filter_frames an odd number >= 1. */
MTFA_FAST_API mtfa_status mtfa_result_decide(mtfa_result* result, size_t class_index, double threshold,
                                             int64_t filter_frames, double minimum_score);
MTFA_FAST_API mtfa_status mtfa_result_close(mtfa_result* result);

/* The log-mel spectrogram that the network sees of samples as mtfa_detect takes them, for pictures of it: (1 + count /
 * hop, mel_bands) values to `out`, which has room for `capacity` of them. */
MTFA_FAST_API mtfa_status mtfa_log_mel(mtfa_detector* detector, const float* samples, size_t count, int64_t sample_rate,
                                       float* out, size_t capacity);

/* --- live: events while it happens, in constant memory --- */

/* An event is reported twice: when it has begun, with the offset and score known so far and `ended` 0, and when it is
 * over. */
typedef struct mtfa_live_event {
  mtfa_event event;
  int32_t ended;
} mtfa_live_event;

/* `chunk` and `look_ahead` in frames, multiples of 8, chunk >= 8, both at most 65536 (16 and 40 are good): answers come
 * for a chunk at once, from a network that sees so far ahead. `delay` becomes the frames after which a frame is
 * answered at the latest, its decision not included. May be NULL. */
MTFA_FAST_API mtfa_status mtfa_live_open(mtfa_detector* detector, int64_t sample_rate, int64_t chunk,
                                         int64_t look_ahead, int64_t* delay, mtfa_live** live);
/* Samples as they come, any number, finite. `events`: what they made certain, in no set order. */
MTFA_FAST_API mtfa_status mtfa_live_push(mtfa_live* live, const float* samples, size_t count,
                                         const mtfa_live_event** events, size_t* event_count);
/* No more samples come: the last events. Leaves the stream to be closed. */
MTFA_FAST_API mtfa_status mtfa_live_finish(mtfa_live* live, const mtfa_live_event** events, size_t* event_count);
/* The probabilities (frames, classes) that the last push or finish made final. */
MTFA_FAST_API mtfa_status mtfa_live_probabilities(mtfa_live* live, const float** probabilities, size_t* frames,
                                                  size_t* classes);
MTFA_FAST_API mtfa_status mtfa_live_close(mtfa_live* live);

#ifdef __cplusplus
}
#endif

#endif
