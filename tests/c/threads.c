/* One encoder and sixteen threads: the same bits as alone; closing, cancelling and logging in the middle of it. */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum { THREADS = 16 };

static struct pictures set;
static byol_encoder encoder;
static byol_cancel token;
static float *reference;
static size_t dimension, length;
static int rounds;
static atomic_int wrong, cancelled, closed, messages, dropped;

static void *extract_and_compare(void *unused)
{
    const byol_cancel never = {0};
    float *features = malloc(length * sizeof *features);
    for (int round = 0; round < rounds; round++) {
        size_t n = 1 + (size_t)round % COUNT;
        if (byol_extract(encoder, set.images, n, NULL, features, 0, length, NULL, never, NULL) != BYOL_OK ||
            memcmp(features, reference, n * dimension * sizeof *features) != 0)
            wrong++;
    }
    free(features);
    return unused;
}

/* Works until the encoder is closed under it. */
static void *extract_until_closed(void *unused)
{
    const byol_cancel never = {0};
    float *features = malloc(length * sizeof *features);
    for (;;) {
        byol_status status = byol_extract(encoder, set.images, 8, NULL, features, 0, length, NULL, never, NULL);
        if (status == BYOL_E_HANDLE) {
            closed++;
            break;
        }
        if (status != BYOL_OK || memcmp(features, reference, 8 * dimension * sizeof *features) != 0)
            wrong++;
    }
    free(features);
    return unused;
}

static void *extract_until_cancelled(void *unused)
{
    float *features = malloc(length * sizeof *features);
    for (;;) {
        byol_status status = byol_extract(encoder, set.images, COUNT, NULL, features, 0, length, NULL, token, NULL);
        if (status == BYOL_E_CANCELLED) {
            cancelled++;
            break;
        }
        if (status != BYOL_OK)
            wrong++;
    }
    free(features);
    return unused;
}

/* Opens and closes heads and tokens, and fails on purpose, so that the log has something to say. */
static void *churn(void *unused)
{
    for (int round = 0; round < 200 * rounds; round++) {
        byol_cancel mine = {0};
        byol_head none = {0};
        byol_head_info info = BYOL_HEAD_INFO_INIT;
        if (byol_cancel_create(0, &mine, NULL) != BYOL_OK || byol_cancel_trigger(mine, NULL) != BYOL_OK ||
            byol_cancel_close(mine, NULL) != BYOL_OK || byol_cancel_close(mine, NULL) != BYOL_E_HANDLE ||
            byol_head_get_info(none, &info, NULL) != BYOL_E_HANDLE)
            wrong++;
    }
    return unused;
}

static void listen(void *user, uint32_t level, const char *message)
{
    if (user != &messages || level != BYOL_LOG_ERROR || strlen(message) == 0)
        wrong++;
    if (byol_set_log_sink(NULL, NULL, NULL, 0, NULL) != BYOL_E_REENTRANT)
        wrong++;
    messages++;
}

static void drop(void *user)
{
    if (user != &messages)
        wrong++;
    dropped++;
}

static void run(void *(*work)(void *), void (*meanwhile)(void))
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, NULL) == 0);
    if (meanwhile)
        meanwhile();
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(wrong == 0);
}

static void pause_ms(long milliseconds)
{
    struct timespec pause = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

static void trigger(void)
{
    pause_ms(30);
    MUST(byol_cancel_trigger(token, E));
}

static void close_it(void)
{
    pause_ms(30);
    MUST(byol_encoder_close(encoder, E));
}

static void change_sinks(void)
{
    for (int i = 0; i < 50; i++) {
        MUST(byol_set_log_sink(listen, &messages, drop, BYOL_LOG_ERROR, E));
        pause_ms(1);
        MUST(byol_set_log_sink(NULL, NULL, NULL, BYOL_LOG_OFF, E));
    }
}

int main(int argc, char **argv)
{
    const byol_cancel never = {0};
    if (argc != 4)
        return 2;
    /* Fewer where every instruction is checked. */
    rounds = getenv("BYOL_TEST_SLOW") ? 3 : 40;
    pictures_make(&set);
    encoder = encoder_open(argv[1]);
    dimension = encoder_dimension(encoder);
    length = COUNT * dimension;
    reference = malloc(length * sizeof *reference);
    MUST(byol_extract(encoder, set.images, COUNT, NULL, reference, 0, length, NULL, never, E));

    run(extract_and_compare, NULL);

    run(churn, change_sinks);
    CHECK(dropped == 50);
    CHECK(messages > 0);

    MUST(byol_cancel_create(0, &token, E));
    run(extract_until_cancelled, trigger);
    CHECK(cancelled == THREADS);
    MUST(byol_cancel_reset(token, E));
    EXPECT(BYOL_OK, byol_extract(encoder, set.images, COUNT, NULL, reference, 0, length, NULL, token, E));
    MUST(byol_cancel_close(token, E));
    MUST(byol_cancel_create(1, &token, E));
    pause_ms(5);
    EXPECT(BYOL_E_DEADLINE, byol_extract(encoder, set.images, COUNT, NULL, reference, 0, length, NULL, token, E));
    MUST(byol_cancel_close(token, E));

    run(extract_until_closed, close_it);
    CHECK(closed == THREADS);
    free(reference);
    return check_end("threads");
}
