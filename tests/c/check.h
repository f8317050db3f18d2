/* What the C tests share: checks that count instead of ending the program, a small data set, whole files. */
#ifndef CHECK_H
#define CHECK_H

#include <byol.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_failures;

#define CHECK(condition)                                                                    \
    do {                                                                                    \
        if (!(condition)) {                                                                 \
            printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                  \
            check_failures++;                                                               \
        }                                                                                   \
    } while (0)

/* The error struct of the call in EXPECT: one that is right, none, or one that was never initialised. */
static byol_error *E;

/* The call gives this status, tells it in full through the error struct, and does the same without one. */
#define EXPECT(status, call)                                                                \
    do {                                                                                    \
        byol_error expect_error = BYOL_ERROR_INIT, expect_wrong = {0, 0, 0, 0, 0, {0}};     \
        byol_status expect_status;                                                          \
        E = &expect_error;                                                                  \
        expect_status = (call);                                                             \
        if (expect_status != (status)) {                                                    \
            printf("%s:%d: %s gives %s (%s), not %s\n", __FILE__, __LINE__, #call,          \
                   byol_status_name(expect_status), expect_error.message, #status);         \
            check_failures++;                                                               \
        }                                                                                   \
        CHECK(expect_error.code == expect_status);                                          \
        CHECK(strlen(expect_error.message) == expect_error.message_len);                    \
        CHECK((expect_error.message_len > 0) == ((status) != BYOL_OK));                     \
        if ((status) != BYOL_OK) {                                                          \
            E = NULL;                                                                       \
            CHECK((call) == (status));                                                      \
            E = &expect_wrong;                                                              \
            CHECK((call) == BYOL_E_ABI);                                                    \
            CHECK(expect_wrong.code == 0 && expect_wrong.message_len == 0);                 \
        }                                                                                   \
        E = NULL;                                                                           \
    } while (0)

/* For what a test needs before it can test. */
#define MUST(call)                                                                          \
    do {                                                                                    \
        byol_error must_error = BYOL_ERROR_INIT;                                            \
        E = &must_error;                                                                    \
        if ((call) != BYOL_OK) {                                                            \
            printf("%s:%d: %s: %s\n", __FILE__, __LINE__, #call, must_error.message);       \
            exit(1);                                                                        \
        }                                                                                   \
        E = NULL;                                                                           \
    } while (0)

/* 28 x 28 gray pictures whose bright band tells their class, 0 to 3. */
enum { SIDE = 28, CLASSES = 4, COUNT = 60 };

struct pictures {
    unsigned char pixels[COUNT][SIDE * SIDE];
    byol_image images[COUNT];
    uint32_t labels[COUNT];
};

static inline void pictures_make(struct pictures *set)
{
    uint32_t noise = 12345;
    for (uint32_t i = 0; i < COUNT; i++) {
        byol_image image = BYOL_IMAGE_INIT;
        set->labels[i] = i % CLASSES;
        for (uint32_t p = 0; p < SIDE * SIDE; p++) {
            uint32_t band = p / SIDE / (SIDE / CLASSES);
            noise = noise * 1664525u + 1013904223u;
            set->pixels[i][p] = (unsigned char)((noise >> 26) + (band == set->labels[i] ? 180u : 20u));
        }
        image.format = BYOL_FORMAT_GRAY8;
        image.width = SIDE;
        image.height = SIDE;
        image.data = set->pixels[i];
        image.data_len = SIDE * SIDE;
        set->images[i] = image;
    }
}

static inline byol_encoder encoder_open(const char *path)
{
    const byol_runtime any = {0};
    byol_source source = BYOL_SOURCE_INIT;
    byol_encoder encoder = {0};
    source.path = path;
    MUST(byol_encoder_open(any, &source, NULL, &encoder, E));
    return encoder;
}

static inline uint32_t encoder_dimension(byol_encoder encoder)
{
    byol_encoder_info info = BYOL_ENCODER_INFO_INIT;
    MUST(byol_encoder_get_info(encoder, &info, E));
    return info.dimension;
}

static inline unsigned char *file_read(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    unsigned char *bytes;
    long end;
    if (!file || fseek(file, 0, SEEK_END) != 0 || (end = ftell(file)) < 0 || fseek(file, 0, SEEK_SET) != 0)
        exit(1);
    *length = (size_t)end;
    bytes = malloc(*length + 1);
    if (!bytes || fread(bytes, 1, *length, file) != *length)
        exit(1);
    fclose(file);
    return bytes;
}

static inline int check_end(const char *name)
{
    for (uint32_t kind = BYOL_KIND_RUNTIME; kind <= BYOL_KIND_TRAINER; kind++)
        CHECK(byol_live_handles(kind) == 0);
    if (check_failures)
        printf("%s: %d checks failed\n", name, check_failures);
    return check_failures != 0;
}

#endif
