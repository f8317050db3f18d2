/*
 * Handles closed while other threads use them, 100,000 times: each call gives the very bits that one thread alone gets, or
 * BYOL_E_HANDLE. Heads first, whose calls are short, then encoders in the middle of an extraction.
 */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>

enum { USERS = 4 };

static struct pictures set;
static float *features, reference[COUNT * CLASSES];
static float *extracted;
static size_t dimension;
static _Atomic uint64_t current;
static atomic_int done, wrong;
static atomic_long used, refused;

static void *use_head(void *unused)
{
    while (!atomic_load(&done)) {
        float probabilities[COUNT * CLASSES];
        /* The same handle a few times, so that it is often closed in between. */
        static _Thread_local unsigned calls;
        static _Thread_local byol_head head;
        byol_status status;
        if (calls++ % 4 == 0)
            head.id = atomic_load(&current);
        status =
            byol_head_predict(head, features, COUNT, dimension, 0, NULL, probabilities, COUNT * CLASSES, NULL);
        if (status == BYOL_E_HANDLE)
            refused++;
        else if (status == BYOL_OK && memcmp(probabilities, reference, sizeof reference) == 0)
            used++;
        else
            wrong++;
    }
    return unused;
}

static void *use_encoder(void *unused)
{
    const byol_cancel never = {0};
    float *mine = malloc(COUNT * dimension * sizeof *mine);
    while (!atomic_load(&done)) {
        static _Thread_local unsigned calls;
        static _Thread_local byol_encoder mine_now;
        byol_status status;
        if (calls++ % 4 == 0)
            mine_now.id = atomic_load(&current);
        status = byol_extract(mine_now, set.images, COUNT, NULL, mine, 0, COUNT * dimension, NULL, never, NULL);
        if (status == BYOL_E_HANDLE)
            refused++;
        else if (status == BYOL_OK && memcmp(mine, extracted, COUNT * dimension * sizeof *mine) == 0)
            used++;
        else
            wrong++;
    }
    free(mine);
    return unused;
}

static void start(pthread_t *threads, void *(*work)(void *))
{
    done = 0;
    used = 0;
    refused = 0;
    for (int i = 0; i < USERS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, NULL) == 0);
    while (used == 0 && wrong == 0)
        ;
}

static void finish(pthread_t *threads, const char *what, long closes)
{
    done = 1;
    for (int i = 0; i < USERS; i++)
        pthread_join(threads[i], NULL);
    printf("%s closed %ld times: %ld calls were right, %ld came too late\n", what, closes, used, refused);
    CHECK(wrong == 0 && used > 0 && refused > 0);
}

int main(int argc, char **argv)
{
    const byol_cancel never = {0};
    long rounds = getenv("BYOL_TEST_SLOW") ? 300 : 100000;
    byol_encoder encoder;
    byol_head head = {0};
    pthread_t threads[USERS];
    unsigned char *bytes;
    size_t length;
    if (argc != 4)
        return 2;
    pictures_make(&set);
    encoder = encoder_open(argv[1]);
    dimension = encoder_dimension(encoder);
    features = malloc(COUNT * dimension * sizeof *features);
    extracted = malloc(COUNT * dimension * sizeof *extracted);
    MUST(byol_extract(encoder, set.images, COUNT, NULL, features, 0, COUNT * dimension, NULL, never, E));
    memcpy(extracted, features, COUNT * dimension * sizeof *features);
    MUST(byol_head_fit(features, COUNT, dimension, 0, set.labels, NULL, CLASSES, encoder, NULL, NULL, NULL, never, &head, NULL,
                       E));
    MUST(byol_head_predict(head, features, COUNT, dimension, 0, NULL, reference, COUNT * CLASSES, E));
    MUST(byol_head_save_bytes(head, NULL, 0, &length, E));
    bytes = malloc(length);
    MUST(byol_head_save_bytes(head, bytes, length, NULL, E));

    current = head.id;
    start(threads, use_head);
    for (long i = 0; i < rounds; i++) {
        byol_head next = {0}, last;
        MUST(byol_head_load_bytes(bytes, length, &next, E));
        last.id = atomic_exchange(&current, next.id);
        MUST(byol_head_close(last, E));
    }
    head.id = current;
    MUST(byol_head_close(head, E));
    finish(threads, "heads", rounds);

    current = encoder.id;
    start(threads, use_encoder);
    rounds = rounds / 500 < 10 ? 10 : rounds / 500;
    for (long i = 0; i < rounds; i++) {
        byol_encoder next = encoder_open(argv[1]), last;
        last.id = atomic_exchange(&current, next.id);
        MUST(byol_encoder_close(last, E));
    }
    encoder.id = current;
    MUST(byol_encoder_close(encoder, E));
    finish(threads, "encoders", rounds);
    free(features), free(extracted), free(bytes);
    return check_end("close");
}
