/* Pictures in, features and nearest neighbours out. Build and run, where libbyol is installed:
 *
 *   cc -std=c11 -O2 embed.c -o embed $(pkg-config --cflags --libs byol) -lm
 *   ./embed encoder.onnx a.jpg b.png c.webp
 */
#include <byol.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void check(byol_status status, const byol_error *error)
{
    if (status != BYOL_OK) {
        fprintf(stderr, "embed: %s\n", error->message);
        exit(1);
    }
}

static double cosine(const float *a, const float *b, size_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return ab / sqrt(aa * bb);
}

int main(int argc, char **argv)
{
    const byol_runtime any = {0};
    const byol_cancel never = {0};
    byol_error error = BYOL_ERROR_INIT;
    byol_source source = BYOL_SOURCE_INIT;
    byol_encoder_info info = BYOL_ENCODER_INFO_INIT;
    byol_encoder encoder = {0};
    if (argc < 4) {
        fprintf(stderr, "usage: embed ENCODER.onnx PICTURE PICTURE...\n");
        return 2;
    }
    const char *const *paths = (const char *const *)argv + 2;
    size_t count = (size_t)argc - 2;

    source.path = argv[1];
    check(byol_encoder_open(any, &source, NULL, &encoder, &error), &error);
    check(byol_encoder_get_info(encoder, &info, &error), &error);
    size_t n = info.dimension;
    float *features = calloc(count * n, sizeof *features);
    if (!features)
        return 1;
    check(byol_extract_files(encoder, paths, count, NULL, features, 0, count * n, NULL, never, &error), &error);

    printf("%zu pictures, %zu features each\n", count, n);
    for (size_t i = 0; i < count; i++) {
        const float *mine = features + i * n;
        size_t nearest = i == 0;
        printf("%s: %.4f", paths[i], (double)mine[0]);
        for (size_t f = 1; f < 4 && f < n; f++)
            printf(" %.4f", (double)mine[f]);
        for (size_t j = 0; j < count; j++)
            if (j != i && cosine(mine, features + j * n, n) > cosine(mine, features + nearest * n, n))
                nearest = j;
        printf("\n  nearest: %s, cosine %.4f\n", paths[nearest], cosine(mine, features + nearest * n, n));
    }
    free(features);
    byol_encoder_close(encoder, NULL);
    return 0;
}
