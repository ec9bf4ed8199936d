/* driver FRAMES u8|i64: frames (C, H, W) from the standard input; to the standard output, of each
 * frame, the codes of every tensor in order as int64_t, and then every tensor's overflows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

static int fail(const char *sentence) {
  fprintf(stderr, "%s\n", sentence);
  return 1;
}

int main(int argc, char **argv) {
  intaglio *model = model_open();
  int frames = argc == 3 ? atoi(argv[1]) : 0, bytes = argc == 3 && !strcmp(argv[2], "u8"), n, t;
  if (!model) return fail(intaglio_error(model));
  for (n = 0; n < frames; ++n) {
    for (t = 0; t < intaglio_count(model); ++t) {
      const intaglio_tensor *about = intaglio_about(model, t);
      size_t size = (size_t)about->channels * (size_t)about->height * (size_t)about->width;
      int64_t *codes = (int64_t *)malloc(size * sizeof(int64_t));
      if (!codes) return fail("no memory");
      if (t == 0 && bytes) {
        uint8_t *frame = (uint8_t *)malloc(size);
        if (!frame || fread(frame, 1, size, stdin) != size) return fail("no frame");
        if (intaglio_run(model, frame)) return fail(intaglio_error(model));
        free(frame);
      } else if (t == 0) {
        if (fread(codes, sizeof(int64_t), size, stdin) != size) return fail("no frame");
        if (intaglio_write(model, t, codes)) return fail(intaglio_error(model));
        intaglio_forward(model);
      }
      if (intaglio_read(model, t, codes)) return fail(intaglio_error(model));
      fwrite(codes, sizeof(int64_t), size, stdout);
      free(codes);
    }
    for (t = 0; t < intaglio_count(model); ++t) {
      const int64_t count = intaglio_overflows(model, t);
      fwrite(&count, sizeof(count), 1, stdout);
    }
  }
  intaglio_close(model);
  return 0;
}
