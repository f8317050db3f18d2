/* Sixteen threads that do everything at once, BYOL_MIX_SECONDS (3; `make soak`: 60) long: extract, classify, load
 * and close heads, teach, search, cancel, change the log sink, close the encoder and open it anew. Whatever succeeds
 * has the bits that one thread alone has got. */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum { THREADS = 16, NEAREST = 3 };

static struct pictures set;
static const char *path;
static _Atomic uint64_t encoder;
static byol_cancel token;
static byol_trainer trainer;
static byol_features container;
static byol_head head;
static unsigned char *head_file;
static size_t head_length, dimension, length;
static float *reference, probabilities[COUNT * CLASSES], cosines[COUNT * NEAREST];
static uint32_t labels[COUNT], neighbours[COUNT * NEAREST];
static time_t end;
static atomic_int wrong, set_sinks, dropped, messages;
static atomic_long calls, late, stopped;

/* Whether there is a result to look at. Where the encoder was closed meanwhile, goes on with the new one. */
static int outcome(byol_status status, byol_encoder *now, int may_be_cancelled)
{
    calls++;
    if (status == BYOL_OK)
        return 1;
    if (status == BYOL_E_HANDLE) {
        late++;
        now->id = atomic_load(&encoder);
    } else if (status == BYOL_E_CANCELLED && may_be_cancelled)
        stopped++;
    else {
        printf("status %s\n", byol_status_name(status));
        wrong++;
    }
    return 0;
}

static void expect_ok(byol_status status)
{
    calls++;
    if (status != BYOL_OK) {
        printf("status %s\n", byol_status_name(status));
        wrong++;
    }
}

static void expect_same(const void *one, const void *other, size_t bytes)
{
    if (memcmp(one, other, bytes) != 0)
        wrong++;
}

static void listen(void *user, uint32_t level, const char *message)
{
    if (user != &messages || level > BYOL_LOG_ERROR || strlen(message) == 0)
        wrong++;
    messages++;
}

static void drop(void *user)
{
    if (user != &messages)
        wrong++;
    dropped++;
}

static void teach(float *row)
{
    uint64_t example = 0;
    byol_head mine = {0};
    byol_fit_options options = BYOL_FIT_OPTIONS_INIT;
    const byol_cancel never = {0};
    options.tolerance = 1e-3;
    expect_ok(byol_trainer_add(trainer, row, 1, dimension, 0, &labels[0], &example, NULL));
    expect_ok(byol_trainer_refit(trainer, &options, NULL, NULL, never, &mine, NULL, NULL));
    expect_ok(byol_head_close(mine, NULL));
    expect_ok(byol_trainer_remove(trainer, &example, 1, NULL));
}

static void *work(void *number)
{
    const byol_cancel never = {0};
    const byol_head none = {0};
    uint32_t random = 7919u * (1u + (uint32_t)(size_t)number);
    float *features = malloc(length * sizeof *features);
    byol_encoder now = {atomic_load(&encoder)};
    while (time(NULL) < end) {
        byol_head mine = {0};
        byol_head_info info = BYOL_HEAD_INFO_INIT;
        uint32_t found[COUNT * NEAREST];
        float values[COUNT * CLASSES];
        size_t n;
        random = random * 1664525u + 1013904223u;
        n = 1 + (random >> 8) % COUNT;
        switch (number ? (random >> 16) % 9 : 9) {
        case 0:
        case 1:
            if (outcome(byol_extract(now, set.images, n, NULL, features, 0, length, NULL, never, NULL), &now, 0))
                expect_same(features, reference, n * dimension * sizeof *features);
            break;
        case 2:
            if (outcome(byol_head_classify(head, now, set.images, n, NULL, found, values, n * CLASSES, NULL, never, NULL),
                        &now, 0)) {
                expect_same(found, labels, n * sizeof *found);
                expect_same(values, probabilities, n * CLASSES * sizeof *values);
            }
            break;
        case 3:
            expect_ok(byol_head_load_bytes(head_file, head_length, &mine, NULL));
            expect_ok(byol_head_predict(mine, reference, n, dimension, 0, found, values, n * CLASSES, NULL));
            expect_same(values, probabilities, n * CLASSES * sizeof *values);
            expect_ok(byol_head_close(mine, NULL));
            break;
        case 4:
            if (outcome(byol_extract(now, set.images, COUNT, NULL, features, 0, length, NULL, token, NULL), &now, 1))
                expect_same(features, reference, length * sizeof *features);
            break;
        case 5:
            expect_ok(byol_cancel_trigger(token, NULL));
            nanosleep(&(struct timespec){0, 1000000}, NULL);
            expect_ok(byol_cancel_reset(token, NULL));
            break;
        case 6:
            expect_ok(byol_set_log_sink(listen, &messages, drop, BYOL_LOG_ERROR, NULL));
            set_sinks++;
            if (byol_head_get_info(none, &info, NULL) != BYOL_E_HANDLE)
                wrong++;
            break;
        case 7:
            expect_ok(byol_features_nearest(container, reference, n, dimension, 0, NEAREST, found, n * NEAREST, values,
                                            n * NEAREST, NULL));
            expect_same(found, neighbours, n * NEAREST * sizeof *found);
            expect_same(values, cosines, n * NEAREST * sizeof *values);
            break;
        case 8:
            teach(reference);
            break;
        default:
            /* The first thread closes the encoder under all others, and opens it anew. */
            n = atomic_exchange(&encoder, encoder_open(path).id);
            now.id = n;
            expect_ok(byol_encoder_close(now, NULL));
        }
    }
    free(features);
    return NULL;
}

int main(int argc, char **argv)
{
    const byol_cancel never = {0};
    const byol_encoder none = {0};
    const char *seconds = getenv("BYOL_MIX_SECONDS");
    pthread_t threads[THREADS];
    byol_encoder first;
    if (argc != 4)
        return 2;
    path = argv[1];
    pictures_make(&set);
    first = encoder_open(path);
    encoder = first.id;
    dimension = encoder_dimension(first);
    length = COUNT * dimension;
    reference = malloc(length * sizeof *reference);
    MUST(byol_extract(first, set.images, COUNT, NULL, reference, 0, length, NULL, never, E));
    MUST(byol_head_fit(reference, COUNT, dimension, 0, set.labels, NULL, CLASSES, first, NULL, NULL, NULL, never, &head,
                       NULL, E));
    MUST(byol_head_predict(head, reference, COUNT, dimension, 0, labels, probabilities, COUNT * CLASSES, E));
    MUST(byol_head_save_bytes(head, NULL, 0, &head_length, E));
    head_file = malloc(head_length);
    MUST(byol_head_save_bytes(head, head_file, head_length, &head_length, E));
    MUST(byol_features_create(none, (uint32_t)dimension, &container, E));
    MUST(byol_features_append(container, reference, COUNT, dimension, 0, NULL, NULL, E));
    MUST(byol_features_nearest(container, reference, COUNT, dimension, 0, NEAREST, neighbours, COUNT * NEAREST, cosines,
                               COUNT * NEAREST, E));
    MUST(byol_trainer_create(none, (uint32_t)dimension, &trainer, E));
    for (uint32_t i = 0; i < CLASSES; i++) {
        const char name[2] = {(char)('a' + i), 0};
        uint32_t label;
        MUST(byol_trainer_add_class(trainer, name, &label, E));
    }
    MUST(byol_trainer_add(trainer, reference, COUNT, dimension, 0, set.labels, NULL, E));
    MUST(byol_cancel_create(0, &token, E));

    /* Longer where every instruction is checked. */
    end = time(NULL) + (seconds ? atoi(seconds) : getenv("BYOL_TEST_SLOW") ? 15 : 3);
    for (size_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    MUST(byol_set_log_sink(NULL, NULL, NULL, BYOL_LOG_OFF, E));
    CHECK(wrong == 0);
    CHECK(dropped == set_sinks);
    printf("%ld calls right, %ld on a closed encoder, %ld cancelled, %d log sinks, %d messages, %d wrong\n",
           calls - late - stopped, (long)late, (long)stopped, (int)set_sinks, (int)messages, (int)wrong);
    first.id = encoder;
    byol_encoder_close(first, NULL);
    byol_head_close(head, NULL);
    byol_trainer_close(trainer, NULL);
    byol_features_close(container, NULL);
    byol_cancel_close(token, NULL);
    free(head_file);
    free(reference);
    return check_end("mixed");
}
