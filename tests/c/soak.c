/*
 * Opens and closes everything again and again: handles, threads and descriptors stay as many, memory stays flat.
 * BYOL_SOAK is the number of cycles (`make soak`: 1,000,000); every 1000th also opens, uses and closes an encoder.
 */
#include "check.h"

#include <dirent.h>

struct state { long memory_kib, threads, descriptors; };

static struct state look(void)
{
    struct state state = {0, 0, 0};
    char line[256];
    FILE *file = fopen("/proc/self/status", "r");
    DIR *folder = opendir("/proc/self/fd");
    if (!file || !folder)
        exit(1);
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, "VmRSS:", 6) == 0)
            state.memory_kib = strtol(line + 6, NULL, 10);
        if (strncmp(line, "Threads:", 8) == 0)
            state.threads = strtol(line + 8, NULL, 10);
    }
    while (readdir(folder))
        state.descriptors++;
    fclose(file);
    closedir(folder);
    return state;
}

int main(int argc, char **argv)
{
    static struct pictures set;
    const byol_cancel never = {0};
    const char *asked = getenv("BYOL_SOAK");
    long cycles = asked ? strtol(asked, NULL, 10) : 20000;
    /* What one file's worth of memory costs to fragmentation, not to a leak: below 3 bytes a cycle in a million. */
    const long allowed_kib = 3072;
    struct state warm = {0, 0, 0}, end;
    byol_encoder encoder;
    byol_head head = {0};
    byol_source source = BYOL_SOURCE_INIT;
    byol_model_info model = BYOL_MODEL_INFO_INIT;
    unsigned char *bytes, *file;
    float *features;
    size_t length, dimension;
    if (argc != 4)
        return 2;
    if (getenv("BYOL_TEST_SLOW"))
        cycles = 2000;
    pictures_make(&set);
    file = file_read(argv[1], &source.data_len);
    source.data = file;
    encoder = encoder_open(argv[1]);
    dimension = encoder_dimension(encoder);
    features = malloc(COUNT * dimension * sizeof *features);
    MUST(byol_extract(encoder, set.images, COUNT, NULL, features, 0, COUNT * dimension, NULL, never, E));
    MUST(byol_head_fit(features, COUNT, dimension, 0, set.labels, NULL, CLASSES, encoder, NULL, NULL, NULL, never, &head, NULL,
                       E));
    MUST(byol_head_save_bytes(head, NULL, 0, &length, E));
    bytes = malloc(length);
    MUST(byol_head_save_bytes(head, bytes, length, NULL, E));
    MUST(byol_encoder_close(encoder, E));
    MUST(byol_head_close(head, E));

    for (long i = 0; i < cycles; i++) {
        byol_cancel token = {0};
        byol_runtime runtime = {0};
        if (i == cycles / 4)
            warm = look();
        MUST(byol_cancel_create((uint64_t)(i % 3), &token, E));
        MUST(byol_runtime_create(NULL, &runtime, E));
        MUST(byol_head_load_bytes(bytes, length, &head, E));
        MUST(byol_head_close(head, E));
        if (i % 10 == 0)
            MUST(byol_model_inspect(&source, &model, E));
        CHECK(byol_head_load_bytes(bytes, length / 2, &head, NULL) == BYOL_E_CORRUPT);
        MUST(byol_runtime_close(runtime, E));
        MUST(byol_cancel_close(token, E));
        if (i % 1000 == 0) {
            encoder = encoder_open(argv[1]);
            MUST(byol_extract(encoder, set.images, 2, NULL, features, 0, COUNT * dimension, NULL, never, E));
            MUST(byol_encoder_close(encoder, E));
        }
    }
    end = look();
    printf("%ld cycles: memory %ld to %ld KiB, threads %ld to %ld, descriptors %ld to %ld\n", cycles, warm.memory_kib,
           end.memory_kib, warm.threads, end.threads, warm.descriptors, end.descriptors);
    CHECK(end.threads == warm.threads && end.descriptors == warm.descriptors);
    CHECK(getenv("BYOL_TEST_SLOW") || end.memory_kib - warm.memory_kib <= allowed_kib);
    free(features), free(bytes), free(file);
    return check_end("soak");
}
