/* Prints the sound events of a WAV file:
 *
 *   cc -std=c99 detect.c $(pkg-config --cflags --libs mtfa_fast) -o detect
 *   ./detect "$(pkg-config --variable=weights mtfa_fast)" recording.wav
 *
 * Reads integer samples of 16, 24 and 32 bits and float of 32, any number of channels, in blocks: the recording is
 * never in memory as a whole. Resampling is somebody else's craft: the file must have the detector's rate, or is
 * refused. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "mtfa_fast.h"

#define BLOCK_FRAMES 4096
#define MOST_CHANNELS 64

typedef struct {
  FILE* file;
  int is_float, channels, bytes; /* bytes of one sample */
  int64_t rate;
  uint64_t frames; /* that are left to be read */
} Wav;

static uint32_t little_endian(const unsigned char* p, int bytes) {
  uint32_t value = 0;
  while (bytes--) value = value << 8 | p[bytes];
  return value;
}

/* Leaves the file where the samples begin. NULL, or what is wrong with it. */
static const char* wav_open(const char* path, Wav* wav) {
  unsigned char head[12], chunk[8], format[40] = {0};
  wav->file = fopen(path, "rb");
  if (!wav->file) return "cannot be opened";
  if (fread(head, 1, 12, wav->file) != 12 || memcmp(head, "RIFF", 4) || memcmp(head + 8, "WAVE", 4)) {
    return "no WAV file";
  }
  while (fread(chunk, 1, 8, wav->file) == 8) {
    const uint32_t size = little_endian(chunk + 4, 4);
    if (!memcmp(chunk, "fmt ", 4) && size >= 16 && size <= sizeof format) {
      uint32_t kind;
      if (fread(format, 1, size, wav->file) != size) return "cut off";
      kind = little_endian(format, 2);
      if (kind == 0xfffe && size == 40) kind = little_endian(format + 24, 2); /* the extensible form */
      wav->is_float = kind == 3;
      wav->channels = (int)little_endian(format + 2, 2);
      wav->rate = (int64_t)little_endian(format + 4, 4);
      wav->bytes = (int)little_endian(format + 14, 2) / 8;
      if (wav->is_float ? wav->bytes != 4 : kind != 1 || wav->bytes < 2 || wav->bytes > 4) return "of another format";
    } else if (!memcmp(chunk, "data", 4)) {
      if (wav->channels < 1 || wav->channels > MOST_CHANNELS) return "of another format";
      wav->frames = size / (uint32_t)(wav->channels * wav->bytes);
      return NULL;
    } else if (fseek(wav->file, (long)size + (size & 1), SEEK_CUR)) {
      return "cut off";
    }
  }
  return "without samples";
}

/* The mean of the channels of up to BLOCK_FRAMES frames; how many there were. */
static size_t wav_read(Wav* wav, float* mono) {
  static unsigned char bytes[BLOCK_FRAMES * MOST_CHANNELS * 4];
  const size_t frame = (size_t)(wav->channels * wav->bytes);
  const size_t wanted = wav->frames < BLOCK_FRAMES ? (size_t)wav->frames : BLOCK_FRAMES;
  const size_t frames = fread(bytes, frame, wanted, wav->file);
  size_t i;
  int c;
  for (i = 0; i < frames; ++i) {
    double sum = 0;
    for (c = 0; c < wav->channels; ++c) {
      /* At the upper end of 32 bits, whatever its own length. */
      const unsigned char* at = bytes + i * frame + (size_t)(c * wav->bytes);
      const uint32_t bits = little_endian(at, wav->bytes) << (32 - 8 * wav->bytes);
      if (wav->is_float) {
        float value;
        memcpy(&value, &bits, sizeof value);
        sum += value;
      } else {
        sum += (bits < 0x80000000u ? (double)bits : (double)bits - 4294967296.0) / 2147483648.0;
      }
    }
    mono[i] = (float)(sum / wav->channels);
  }
  wav->frames -= frames;
  return frames;
}

int main(int argc, char** argv) {
  static float mono[BLOCK_FRAMES];
  mtfa_detector* detector = NULL;
  mtfa_recording* recording = NULL;
  mtfa_result* result = NULL;
  const mtfa_event* events;
  Wav wav;
  const char* wrong;
  size_t count, i;
  int failed = 1;

  if (argc != 3) {
    fprintf(stderr, "usage: %s WEIGHTS.safetensors RECORDING.wav\n", argv[0]);
    return 2;
  }
  memset(&wav, 0, sizeof wav);
  wrong = wav_open(argv[2], &wav);
  if (wrong) {
    fprintf(stderr, "%s: %s\n", argv[2], wrong);
  } else if (mtfa_open(argv[1], NULL, &detector) || mtfa_recording_open(detector, wav.rate, &recording)) {
    fprintf(stderr, "%s\n", mtfa_last_error());
  } else {
    while ((count = wav_read(&wav, mono)) > 0 && mtfa_recording_push(recording, mono, count) == MTFA_OK) continue;
    failed = count > 0 || mtfa_recording_finish(recording, &result) || mtfa_result_events(result, &events, &count);
    if (failed) fprintf(stderr, "%s: %s\n", argv[2], mtfa_last_error());
    for (i = 0; !failed && i < count; ++i) {
      printf("%.2f\t%.2f\t%s\t%.3f\n", events[i].onset, events[i].offset, events[i].label, events[i].score);
    }
  }
  mtfa_result_close(result);
  mtfa_recording_close(recording);
  mtfa_close(detector);
  if (wav.file) fclose(wav.file);
  return failed;
}
