/*
 * What a call costs on top of its work: byol_head_predict on one row of one feature and two classes, and a call that only
 * looks up a handle. Prints nanoseconds per call, of this thread's own time; fails where a prediction takes 2,000.
 *
 *   cc -std=c11 -D_POSIX_C_SOURCE=200809L -O2 -Iinclude tests/bench/call.c -o target/call -Ltarget/release -lbyol -Wl,-rpath,target/release
 */
#include <byol.h>
#include <stdio.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    /* This thread's own time: others may run beside. */
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

int main(void)
{
    enum { CALLS = 1000000 };
    const float features[4] = {-1, 1, -2, 2};
    const uint32_t labels[4] = {0, 1, 0, 1};
    const byol_cancel never = {0};
    const byol_encoder none = {0};
    byol_error error = BYOL_ERROR_INIT;
    byol_head head = {0};
    byol_head_info info = BYOL_HEAD_INFO_INIT;
    uint32_t label = 9;
    double start, least = 1e9;
    if (byol_head_fit(features, 4, 1, 0, labels, NULL, 2, none, NULL, NULL, NULL, never, &head, NULL, &error) != BYOL_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    for (int round = 0; round < 3; round++) {
        byol_status failed = BYOL_OK;
        start = now();
        for (int i = 0; i < CALLS; i++)
            failed |= byol_head_predict(head, features, 1, 1, 0, &label, NULL, 0, NULL);
        printf("byol_head_predict: %.0f ns, ", (now() - start) / CALLS);
        start = now();
        for (int i = 0; i < CALLS; i++)
            failed |= byol_head_predict(head, features, 1, 1, 0, &label, NULL, 0, &error);
        least = (now() - start) / CALLS < least ? (now() - start) / CALLS : least;
        printf("with an error struct: %.0f ns, ", (now() - start) / CALLS);
        start = now();
        for (int i = 0; i < CALLS; i++)
            failed |= byol_head_get_info(head, &info, NULL);
        printf("byol_head_get_info: %.0f ns\n", (now() - start) / CALLS);
        if (failed != BYOL_OK || label != 0)
            return 1;
    }
    byol_head_close(head, NULL);
    return least >= 2000;
}
