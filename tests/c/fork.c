/* A child that was forked after the first call is told so by every call; one forked before works. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <sys/wait.h>
#include <unistd.h>

static int child_status(pid_t child)
{
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
    static struct pictures set;
    const byol_cancel never = {0};
    byol_encoder encoder;
    float *features;
    size_t length;
    pid_t child;
    if (argc != 4)
        return 2;
    pictures_make(&set);
    child = fork();
    encoder = encoder_open(argv[1]);
    length = (size_t)COUNT * encoder_dimension(encoder);
    features = malloc(length * sizeof *features);
    MUST(byol_extract(encoder, set.images, COUNT, NULL, features, 0, length, NULL, never, E));
    if (child == 0) {
        MUST(byol_encoder_close(encoder, E));
        free(features);
        return check_end("fork, child from before");
    }
    CHECK(child_status(child) == 0);

    child = fork();
    if (child == 0) {
        byol_cancel token = {0};
        byol_encoder_info info = BYOL_ENCODER_INFO_INIT;
        EXPECT(BYOL_E_FORKED, byol_extract(encoder, set.images, COUNT, NULL, features, 0, length, NULL, never, E));
        EXPECT(BYOL_E_FORKED, byol_encoder_get_info(encoder, &info, E));
        EXPECT(BYOL_E_FORKED, byol_encoder_close(encoder, E));
        EXPECT(BYOL_E_FORKED, byol_cancel_create(0, &token, E));
        EXPECT(BYOL_E_FORKED, byol_set_log_sink(NULL, NULL, NULL, 0, E));
        EXPECT(BYOL_E_FORKED, byol_shutdown(E));
        CHECK(byol_live_handles(BYOL_KIND_ANY) == 0 && byol_version() == BYOL_VERSION_NUMBER);
        /* Not exit(): it would wait, in ONNX Runtime's destructors, for threads that this process does not have. */
        fflush(stdout);
        _exit(check_failures != 0);
    }
    CHECK(child_status(child) == 0);
    MUST(byol_extract(encoder, set.images, COUNT, NULL, features, 0, length, NULL, never, E));
    MUST(byol_encoder_close(encoder, E));
    free(features);
    return check_end("fork");
}
