/* Learns classes from folders of pictures, and one more later. The last picture of each folder is kept to see how well.
 *
 *   cc -std=c11 -O2 teach.c -o teach $(pkg-config --cflags --libs byol)
 *   ./teach encoder.onnx head.safetensors cats dogs birds
 */
#define _POSIX_C_SOURCE 200809L
#include <byol.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 1000 };

/* Pictures, their features one after the other, and their classes. */
struct set {
    size_t count;
    char *paths[MOST];
    uint32_t classes[MOST];
    float *features;
};

static void check(byol_status status, const byol_error *error)
{
    if (status != BYOL_OK) {
        fprintf(stderr, "teach: %s\n", error->message);
        exit(1);
    }
}

/* Enrols a folder's pictures as a class: all but the last to learn from. */
static void enrol(byol_encoder encoder, size_t n, const char *folder, uint32_t class_index, struct set *learn, struct set *held)
{
    struct dirent **entries;
    byol_error error = BYOL_ERROR_INIT;
    int files = scandir(folder, &entries, NULL, alphasort);
    for (int i = 0; i < files; free(entries[i++])) {
        struct set *set = i == files - 1 ? held : learn;
        if (entries[i]->d_name[0] == '.' || set->count == MOST)
            continue;
        char *path = malloc(strlen(folder) + strlen(entries[i]->d_name) + 2);
        sprintf(path, "%s/%s", folder, entries[i]->d_name);
        float *features = set->features + set->count * n;
        const char *const paths[] = {path};
        check(byol_extract_files(encoder, paths, 1, NULL, features, 0, n, NULL, (byol_cancel){0}, &error), &error);
        set->classes[set->count] = class_index;
        set->paths[set->count++] = path;
    }
    if (files >= 0)
        free(entries);
}

/* Fits a head, keeps it in a file, and judges and uses what the file holds. */
static void teach(byol_encoder encoder, size_t n, const char *file, const char *const *names, uint32_t classes,
                  const struct set *learn, const struct set *held)
{
    byol_error error = BYOL_ERROR_INIT;
    byol_head fitted = {0}, head = {0};
    byol_metrics metrics = BYOL_METRICS_INIT;
    uint32_t labels[MOST];
    float *probabilities = calloc(held->count * classes, sizeof *probabilities);
    check(byol_head_fit(learn->features, learn->count, n, 0, learn->classes, names, classes, encoder, NULL, NULL, NULL,
                        (byol_cancel){0}, &fitted, NULL, &error), &error);
    check(byol_head_save(fitted, file, &error), &error);
    check(byol_head_load(file, &head, &error), &error);
    check(byol_head_evaluate(head, held->features, held->count, n, 0, held->classes, &metrics, NULL, 0, NULL, 0, &error),
          &error);
    check(byol_head_predict(head, held->features, held->count, n, 0, labels, probabilities, held->count * classes, &error),
          &error);
    printf("%u classes, %zu pictures learned, %.3f of %zu others right\n", classes, learn->count, metrics.top1, held->count);
    for (size_t i = 0; i < held->count; i++)
        printf("  %s: %s %.3f\n", held->paths[i], names[labels[i]], (double)probabilities[i * classes + labels[i]]);
    byol_head_close(fitted, NULL);
    byol_head_close(head, NULL);
    free(probabilities);
}

int main(int argc, char **argv)
{
    byol_error error = BYOL_ERROR_INIT;
    byol_source source = BYOL_SOURCE_INIT;
    byol_encoder_info info = BYOL_ENCODER_INFO_INIT;
    byol_encoder encoder = {0};
    static struct set learn, held;
    if (argc < 6)
        return fprintf(stderr, "usage: teach ENCODER.onnx HEAD.safetensors FOLDER FOLDER FOLDER...\n"), 2;
    const char *const *folders = (const char *const *)argv + 3;
    uint32_t classes = (uint32_t)argc - 3;
    source.path = argv[1];
    check(byol_encoder_open((byol_runtime){0}, &source, NULL, &encoder, &error), &error);
    check(byol_encoder_get_info(encoder, &info, &error), &error);
    learn.features = calloc((size_t)MOST * info.dimension, sizeof(float));
    held.features = calloc((size_t)MOST * info.dimension, sizeof(float));
    for (uint32_t i = 0; i < classes; i++) {
        enrol(encoder, info.dimension, folders[i], i, &learn, &held);
        if (i >= classes - 2) /* without the last class, and with it */
            teach(encoder, info.dimension, argv[2], folders, i + 1, &learn, &held);
    }
    byol_encoder_close(encoder, NULL);
    return 0;
}
