/*
 * What happens when memory ends: failing ENCODER FOLDER. This program's own malloc fails at the N-th call after it was
 * armed, for N = 1, 2, ... until nothing fails any more, each N in a child of its own (forked before the first call into
 * libbyol). A child ends well (a typed error, or the failure did no harm, and then the same work succeeds), or by abort,
 * which Rust's and C++'s small allocations do; anything else is a failure, but for ONNX Runtime's own while it builds a session. Prints the counts of each kind.
 */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

/* Calls until the failure; 0 is not armed. Only allocations of at least `least` bytes count. */
static atomic_long left;
static size_t least;

static int fails(size_t size)
{
    return size >= least && atomic_load(&left) > 0 && atomic_fetch_sub(&left, 1) == 1;
}

void *malloc(size_t size) { return fails(size) ? NULL : __libc_malloc(size); }
void *calloc(size_t n, size_t size) { return fails(n * size) ? NULL : __libc_calloc(n, size); }
void *realloc(void *p, size_t size) { return fails(size) ? NULL : __libc_realloc(p, size); }
void *memalign(size_t alignment, size_t size) { return fails(size) ? NULL : __libc_memalign(alignment, size); }
void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }
int posix_memalign(void **p, size_t alignment, size_t size)
{
    return (*p = memalign(alignment, size)) ? 0 : ENOMEM;
}

/* So many that what grows with them (probabilities, 2.4 MB) is told apart from what does not (a piece's scores, and what a
 * matrix product packs, whose size differs from processor to processor). */
enum { ROWS = 200000, COLUMNS = 16, GROWING = 512 << 10 };

static struct pictures set;
static float rows[ROWS * COLUMNS], probabilities[ROWS * CLASSES];
static uint32_t labels[ROWS], predicted[ROWS];
static const char *encoder_path, *head_path;
static const byol_cancel never;
static const byol_encoder none;

static byol_status inspect_and_load(void)
{
    byol_source source = BYOL_SOURCE_INIT;
    byol_model_info info = BYOL_MODEL_INFO_INIT;
    byol_head head = {0};
    byol_status status;
    source.path = encoder_path;
    if ((status = byol_model_inspect(&source, &info, NULL)) == BYOL_OK && (status = byol_head_load(head_path, &head, NULL)) == BYOL_OK)
        status = byol_head_close(head, NULL);
    return status;
}

static byol_head loaded;
static byol_encoder encoder;

static byol_status predict(void)
{
    byol_metrics metrics = BYOL_METRICS_INIT;
    byol_status status =
        byol_head_predict(loaded, rows, ROWS, COLUMNS, 0, predicted, probabilities, ROWS * CLASSES, NULL);
    if (status == BYOL_OK)
        status = byol_head_evaluate(loaded, rows, ROWS, COLUMNS, 0, labels, &metrics, NULL, 0, NULL, 0, NULL);
    return status;
}

static byol_status extract(void)
{
    static float features[COUNT * 256];
    return byol_extract(encoder, set.images, COUNT, NULL, features, 0, COUNT * 256, NULL, never, NULL);
}

static byol_status open_encoder(void)
{
    const byol_runtime any = {0};
    byol_source source = BYOL_SOURCE_INIT;
    byol_encoder opened = {0};
    byol_status status;
    source.path = encoder_path;
    if ((status = byol_encoder_open(any, &source, NULL, &opened, NULL)) == BYOL_OK)
        status = byol_encoder_close(opened, NULL);
    return status;
}

static byol_status fit(void)
{
    byol_head head = {0};
    byol_status status = byol_head_fit(rows, 400, COLUMNS, 0, labels, NULL, CLASSES, none, NULL, NULL, NULL, never, &head,
                                       NULL, NULL);
    if (status == BYOL_OK)
        status = byol_head_close(head, NULL);
    return status;
}

/* What a child tells by its exit status. */
enum { NOTHING_FAILED = 10, HARMLESS = 11, TYPED = 12, NO_MEMORY = 13, BROKEN = 14 };

static int child(byol_status (*work)(void), long n, size_t size)
{
    int silence = open("/dev/null", O_WRONLY);
    byol_status status;
    alarm(60);
    if (work == predict && byol_head_load(head_path, &loaded, NULL) != BYOL_OK)
        return BROKEN;
    if (work == extract || work == open_encoder) {
        encoder = encoder_open(encoder_path);
        if (extract() != BYOL_OK)
            return BROKEN;
    }
    /* Rust says a word before it aborts. */
    dup2(silence, 2);
    least = size;
    atomic_store(&left, n);
    status = work();
    if (atomic_exchange(&left, 0) > 0)
        return status == BYOL_OK ? NOTHING_FAILED : BROKEN;
    if (work() != BYOL_OK)
        return BROKEN;
    return status == BYOL_OK ? HARMLESS : status == BYOL_E_NO_MEMORY ? NO_MEMORY : TYPED;
}

static void try_all(const char *what, byol_status (*work)(void), size_t size, int may_abort)
{
    const long step = getenv("BYOL_MEMORY_FINE") ? 40 : 5;
    long harmless = 0, typed = 0, no_memory = 0, aborted = 0, segv = 0, tried = 0;
    /* All of the first, then fewer and fewer, or it would take hours. */
    for (long n = 1;; n += 1 + n / step) {
        int status = 0;
        pid_t pid = fork();
        if (pid == 0)
            _exit(child(work, n, size));
        CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
        if (WIFEXITED(status) && WEXITSTATUS(status) == NOTHING_FAILED)
            break;
        tried++;
        if (WIFEXITED(status) && WEXITSTATUS(status) == HARMLESS)
            harmless++;
        else if (WIFEXITED(status) && WEXITSTATUS(status) == TYPED)
            typed++;
        else if (WIFEXITED(status) && WEXITSTATUS(status) == NO_MEMORY)
            no_memory++;
        else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT)
            aborted++;
        else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV && work == open_encoder)
            /* ONNX Runtime, where it builds a session: the header says so, and nothing here can help it. */
            segv++;
        else {
            printf("%s, allocation %ld: status %x\n", what, n, (unsigned)status);
            check_failures++;
        }
        if (tried > 3000) {
            printf("%s: no end\n", what);
            check_failures++;
            break;
        }
    }
    printf("%s, allocations of %zu bytes and more: %ld tried, %ld NO_MEMORY, %ld other errors, %ld without harm, %ld aborted, "
           "%ld ended by SIGSEGV inside ONNX Runtime\n",
           what, size, tried, no_memory, typed, harmless, aborted, segv);
    CHECK(tried > 0);
    CHECK(may_abort || aborted == 0);
}

int main(int argc, char **argv)
{
    uint32_t noise = 1;
    if (argc != 3)
        return 2;
    encoder_path = argv[1], head_path = argv[2];
    pictures_make(&set);
    for (size_t i = 0; i < ROWS * COLUMNS; i++) {
        noise = noise * 1664525u + 1013904223u;
        labels[i / COLUMNS] = (uint32_t)(i / COLUMNS) % CLASSES;
        rows[i] = (float)(noise >> 8) / 16777216.0f + (i % COLUMNS == labels[i / COLUMNS] ? 1.0f : 0.0f);
    }
    if (access(head_path, F_OK) != 0) {
        pid_t pid = fork();
        int status = 1;
        if (pid == 0) {
            byol_head head = {0};
            _exit(byol_head_fit(rows, ROWS, COLUMNS, 0, labels, NULL, CLASSES, none, NULL, NULL, NULL, never, &head, NULL, NULL) ||
                  byol_head_save(head, head_path, NULL));
        }
        CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    }
    try_all("inspect and load", inspect_and_load, 1, 1);
    try_all("predict and evaluate", predict, 1, 1);
    try_all("extract", extract, 1, 1);
    try_all("open an encoder", open_encoder, 1, 1);
    try_all("fit", fit, 1, 1);
    /* What the caller's sizes decide must not abort. */
    try_all("predict and evaluate", predict, GROWING, 0);
    try_all("extract", extract, 4096, 1);
    return check_failures != 0;
}
