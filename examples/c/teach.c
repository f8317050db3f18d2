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
static const byol_cancel never = {0};

/* The pictures that are kept, their features one after the other, and their classes. */
static struct {
    size_t count;
    char *paths[MOST];
    uint32_t classes[MOST];
    float *features;
} held;

static void check(byol_status status, const byol_error *error)
{
    if (status != BYOL_OK) {
        fprintf(stderr, "teach: %s\n", error->message);
        exit(1);
    }
}

/* Enrols a folder's pictures as a class of the trainer: all but the last. */
static void enrol(byol_trainer trainer, byol_encoder encoder, size_t n, const char *folder)
{
    byol_error error = BYOL_ERROR_INIT;
    struct dirent **entries;
    uint32_t label;
    int files = scandir(folder, &entries, NULL, alphasort);
    check(byol_trainer_add_class(trainer, folder, &label, &error), &error);
    for (int i = 0; i < files; free(entries[i++])) {
        if (entries[i]->d_name[0] == '.' || held.count == MOST)
            continue;
        char *path = malloc(strlen(folder) + strlen(entries[i]->d_name) + 2);
        sprintf(path, "%s/%s", folder, entries[i]->d_name);
        const char *const paths[] = {path};
        if (i < files - 1) {
            check(byol_trainer_add_files(trainer, encoder, paths, 1, &label, NULL, NULL, never, &error), &error);
            free(path);
        } else {
            float *features = held.features + held.count * n;
            check(byol_extract_files(encoder, paths, 1, NULL, features, 0, n, NULL, never, &error), &error);
            held.classes[held.count] = label;
            held.paths[held.count++] = path;
        }
    }
    if (files >= 0)
        free(entries);
}

/* Fits a head to all that was enrolled, keeps it in a file, and judges and uses what the file holds. */
static void teach(byol_trainer trainer, size_t n, const char *file, const char *const *names)
{
    byol_error error = BYOL_ERROR_INIT;
    byol_head fitted = {0}, head = {0};
    byol_metrics metrics = BYOL_METRICS_INIT;
    byol_trainer_info info = BYOL_TRAINER_INFO_INIT;
    uint32_t labels[MOST];
    check(byol_trainer_refit(trainer, NULL, NULL, NULL, never, &fitted, NULL, &error), &error);
    check(byol_head_save(fitted, file, &error), &error);
    check(byol_head_load(file, &head, &error), &error);
    check(byol_trainer_get_info(trainer, &info, &error), &error);
    float *probabilities = calloc(held.count * info.classes, sizeof *probabilities);
    check(byol_head_evaluate(head, held.features, held.count, n, 0, held.classes, &metrics, NULL, 0, NULL, 0, &error),
          &error);
    check(byol_head_predict(head, held.features, held.count, n, 0, labels, probabilities, held.count * info.classes,
                            &error), &error);
    printf("%u classes, %llu pictures learned, %.3f of %zu others right\n", (unsigned)info.classes,
           (unsigned long long)info.examples, metrics.top1, held.count);
    for (size_t i = 0; i < held.count; i++)
        printf("  %s: %s %.3f\n", held.paths[i], names[labels[i]], (double)probabilities[i * info.classes + labels[i]]);
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
    byol_trainer trainer = {0};
    if (argc < 6)
        return fprintf(stderr, "usage: teach ENCODER.onnx HEAD.safetensors FOLDER FOLDER FOLDER...\n"), 2;
    source.path = argv[1];
    check(byol_encoder_open((byol_runtime){0}, &source, NULL, &encoder, &error), &error);
    check(byol_encoder_get_info(encoder, &info, &error), &error);
    check(byol_trainer_create(encoder, 0, &trainer, &error), &error);
    held.features = calloc((size_t)MOST * info.dimension, sizeof(float));
    for (int i = 3; i < argc; i++) {
        enrol(trainer, encoder, info.dimension, argv[i]);
        if (i >= argc - 2) /* without the last class, and with it */
            teach(trainer, info.dimension, argv[2], (const char *const *)argv + 3);
    }
    byol_trainer_close(trainer, NULL);
    byol_encoder_close(encoder, NULL);
    return 0;
}
