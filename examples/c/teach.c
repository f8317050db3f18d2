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

enum { MOST = 1000, LONGEST = 4096 };
static const byol_cancel never = {0};
static byol_error error = BYOL_ERROR_INIT;
/* The last picture of each folder, and its class. */
static char others[MOST + 1][LONGEST];
static uint32_t classes[MOST];
static size_t rows;

static void check(byol_status status)
{
    if (status != BYOL_OK) {
        fprintf(stderr, "teach: %s\n", error.message);
        exit(1);
    }
}

/* Enrols a folder's pictures as a class of the trainer: all but the last. */
static void enrol(byol_trainer trainer, byol_encoder encoder, const char *folder)
{
    struct dirent **entries = NULL;
    uint32_t label;
    int files = scandir(folder, &entries, NULL, alphasort);
    check(byol_trainer_add_class(trainer, folder, &label, &error));
    for (int i = 0; i < files; free(entries[i++])) {
        const char *const path[] = {others[rows]};
        snprintf(others[rows], LONGEST, "%s/%s", folder, entries[i]->d_name);
        if (i == files - 1)
            classes[rows++] = label;
        else if (entries[i]->d_name[0] != '.')
            check(byol_trainer_add_files(trainer, encoder, path, 1, &label, NULL, NULL, never, &error));
    }
    free(entries);
}

/* Fits a head to all that was enrolled, keeps it in a file, and judges and uses what the file holds. */
static void teach(byol_trainer trainer, byol_encoder encoder, const char *file, char **names)
{
    byol_head fitted = {0}, head = {0};
    byol_metrics metrics = BYOL_METRICS_INIT;
    byol_trainer_info info = BYOL_TRAINER_INFO_INIT;
    uint32_t guesses[MOST];
    float probabilities[MOST];
    check(byol_trainer_refit(trainer, NULL, NULL, NULL, never, &fitted, NULL, &error));
    check(byol_head_save(fitted, file, &error));
    check(byol_head_load(file, &head, &error));
    check(byol_trainer_get_info(trainer, &info, &error));
    size_t n = info.dimension;
    float *features = calloc(rows * n, sizeof *features);
    for (size_t i = 0; i < rows; i++) {
        const char *const path[] = {others[i]};
        check(byol_extract_files(encoder, path, 1, NULL, features + i * n, 0, n, NULL, never, &error));
    }
    check(byol_head_evaluate(head, features, rows, n, 0, classes, &metrics, NULL, 0, NULL, 0, &error));
    check(byol_head_top_k(head, features, rows, n, 0, 1, 0, guesses, rows, probabilities, rows, &error));
    printf("%u classes, %llu pictures learned, %.3f of %zu others right\n", (unsigned)info.classes,
           (unsigned long long)info.examples, metrics.top1, rows);
    for (size_t i = 0; i < rows; i++)
        printf("  %s: %s %.3f\n", others[i], names[guesses[i]], (double)probabilities[i]);
    byol_head_close(fitted, NULL), byol_head_close(head, NULL);
    free(features);
}

int main(int argc, char **argv)
{
    byol_source source = BYOL_SOURCE_INIT;
    byol_encoder encoder = {0};
    byol_trainer trainer = {0};
    if (argc < 6 || argc > MOST)
        return fprintf(stderr, "usage: teach ENCODER.onnx HEAD.safetensors FOLDER FOLDER FOLDER...\n"), 2;
    source.path = argv[1];
    check(byol_encoder_open((byol_runtime){0}, &source, NULL, &encoder, &error));
    check(byol_trainer_create(encoder, 0, &trainer, &error));
    for (int i = 3; i < argc; i++) {
        enrol(trainer, encoder, argv[i]);
        if (i >= argc - 2) /* without the last class, and with it */
            teach(trainer, encoder, argv[2], argv + 3);
    }
    byol_trainer_close(trainer, NULL), byol_encoder_close(encoder, NULL);
    return 0;
}
