/*
 * How long after byol_cancel_trigger, or after its deadline, a long call returns: the 99th percentile of extractions and of
 * fits is within 200 ms on whatever machine this runs, for an encoder whose operators are short. (The bound is one operator
 * or one pass over the rows, and 5 ms; docs/results.md has the figures of a quiet machine.)
 */
#include "check.h"

#include <pthread.h>
#include <time.h>

enum { TRIALS = 150, MANY = 6000, ROWS = 3000, COLUMNS = 128 };

static struct pictures set;
static byol_image *many;
static byol_encoder encoder;
static byol_cancel token;
static float *features, *rows;
static uint32_t *labels;
static size_t dimension;
static double ended;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static void wait_ms(double milliseconds)
{
    struct timespec pause = {(time_t)(milliseconds / 1e3), 0};
    pause.tv_nsec = (long)((milliseconds - (double)pause.tv_sec * 1e3) * 1e6);
    nanosleep(&pause, NULL);
}

static byol_status extract(void)
{
    return byol_extract(encoder, many, MANY, NULL, features, 0, MANY * dimension, NULL, token, NULL);
}

static byol_status fit(void)
{
    byol_fit_options options = BYOL_FIT_OPTIONS_INIT;
    const byol_encoder none = {0};
    byol_head head = {0};
    byol_status status;
    /* Labels without sense and hardly a penalty: it goes on for long. */
    options.l2 = 1e-9, options.tolerance = 1e-14, options.max_iterations = 1000000;
    status = byol_head_fit(rows, ROWS, COLUMNS, 0, labels, NULL, CLASSES, none, &options, NULL, NULL, token, &head, NULL, NULL);
    byol_head_close(head, NULL);
    return status;
}

static byol_status (*work)(void);

static void *run(void *status)
{
    *(byol_status *)status = work();
    ended = now();
    return NULL;
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void tell(const char *what, double *times, size_t count)
{
    qsort(times, count, sizeof *times, by_size);
    CHECK(count >= TRIALS / 2);
    if (count == 0)
        return;
    printf("%s: %zu times, median %.1f ms, p99 %.1f ms, longest %.1f ms\n", what, count, times[count / 2],
           times[count * 99 / 100], times[count - 1]);
    CHECK(times[count * 99 / 100] < 200);
}

static void measure(const char *what, byol_status (*call)(void), int by_deadline)
{
    double times[TRIALS];
    size_t count = 0;
    work = call;
    for (int i = 0; i < TRIALS; i++) {
        const double delay = 1 + (double)(i % 13);
        byol_status status = BYOL_OK;
        double asked;
        if (by_deadline) {
            const double start = now();
            MUST(byol_cancel_create((uint64_t)delay, &token, E));
            run(&status);
            asked = start + delay;
        } else {
            pthread_t thread;
            MUST(byol_cancel_create(0, &token, E));
            CHECK(pthread_create(&thread, NULL, run, &status) == 0);
            wait_ms(delay);
            asked = now();
            MUST(byol_cancel_trigger(token, E));
            pthread_join(thread, NULL);
        }
        MUST(byol_cancel_close(token, E));
        CHECK(status == BYOL_OK || status == (by_deadline ? BYOL_E_DEADLINE : BYOL_E_CANCELLED));
        if (status != BYOL_OK)
            times[count++] = ended - asked;
    }
    tell(what, times, count);
}

int main(int argc, char **argv)
{
    uint32_t noise = 1;
    if (argc != 4)
        return 2;
    pictures_make(&set);
    encoder = encoder_open(argv[1]);
    dimension = encoder_dimension(encoder);
    many = malloc(MANY * sizeof *many);
    features = malloc(MANY * dimension * sizeof *features);
    rows = malloc(ROWS * COLUMNS * sizeof *rows);
    labels = malloc(ROWS * sizeof *labels);
    for (size_t i = 0; i < MANY; i++)
        many[i] = set.images[i % COUNT];
    for (size_t i = 0; i < ROWS * COLUMNS; i++) {
        noise = noise * 1664525u + 1013904223u;
        rows[i] = (float)(noise >> 8) / 16777216.0f;
        labels[i / COLUMNS] = (noise >> 13) % CLASSES;
    }
    measure("extract, cancelled", extract, 0);
    measure("extract, deadline", extract, 1);
    measure("fit, cancelled", fit, 0);
    measure("fit, deadline", fit, 1);
    byol_encoder_close(encoder, NULL);
    free(many), free(features), free(rows), free(labels);
    return check_end("latency");
}
