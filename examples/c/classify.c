/*
 * Learns to classify pictures with an encoder that never saw a label: extracts features, fits a linear head on all
 * labels and on ten per class, evaluates both on test pictures, saves the head, loads it again and classifies with it.
 *
 * Build and run, in the checkout, after `cargo build --release -p byol-ffi` and `python3 src/native/fetch.py onnxruntime`:
 *
 *   mkdir -p target/demo/data
 *   for f in examples/data/fashion-mnist/?*-ubyte.gz; do gunzip -c $f > target/demo/data/$(basename $f .gz); done
 *   cc -std=c11 -O2 -Iinclude examples/c/classify.c -o target/classify -Ltarget/release -lbyol -Wl,-rpath,target/release
 *   target/classify encoder.onnx target/demo/data head.safetensors
 *
 * DATA_DIR holds the four files of a data set in MNIST's format, unpacked. --json prints one line for machines instead.
 */
#include <byol.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Pictures of one channel and their labels. */
struct dataset {
    uint32_t count, height, width;
    unsigned char *pixels, *labels;
    uint32_t *classes; /* the labels, as libbyol takes them */
    float *features;   /* [count, dimension] */
};

static void die(const char *what, const char *why)
{
    fprintf(stderr, "classify: %s: %s\n", what, why);
    exit(1);
}

/* Every call into libbyol says how it went; here a failure ends the program. */
static void check(byol_status status, const char *what, const byol_error *error)
{
    if (status != BYOL_OK)
        die(what, error->message);
}

static double now(void)
{
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    if (!memory)
        die("memory", "none left");
    return memory;
}

/* Reads an IDX file of bytes: 0, 0, 8, the number of dimensions, each in 4 bytes with the highest first, the values. */
static unsigned char *read_idx(const char *folder, const char *name, uint32_t dimensions, uint32_t *sizes)
{
    char path[4096];
    unsigned char head[16] = {0}, *values;
    size_t count = 1;
    FILE *file;
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path || !(file = fopen(path, "rb")))
        die(name, "can't be opened");
    if (fread(head, 4 + 4 * dimensions, 1, file) != 1 || head[2] != 8 || head[3] != dimensions)
        die(path, "not an unpacked IDX file");
    for (uint32_t i = 0; i < dimensions; i++) {
        const unsigned char *p = head + 4 + 4 * i;
        sizes[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
        if (sizes[i] == 0 || count > ((size_t)1 << 31) / sizes[i])
            die(path, "sizes that make no sense");
        count *= sizes[i];
    }
    values = allocate(count, 1);
    if (fread(values, count, 1, file) != 1)
        die(path, "cut short");
    fclose(file);
    return values;
}

static struct dataset read_dataset(const char *folder, const char *part)
{
    char name[64];
    uint32_t sizes[3], labels = 0;
    struct dataset set = {0};
    snprintf(name, sizeof name, "%s-images-idx3-ubyte", part);
    set.pixels = read_idx(folder, name, 3, sizes);
    snprintf(name, sizeof name, "%s-labels-idx1-ubyte", part);
    set.labels = read_idx(folder, name, 1, &labels);
    if (labels != sizes[0])
        die(name, "not one label per picture");
    set.count = sizes[0], set.height = sizes[1], set.width = sizes[2];
    set.classes = allocate(set.count, sizeof *set.classes);
    for (uint32_t i = 0; i < set.count; i++)
        set.classes[i] = set.labels[i];
    return set;
}

static byol_image picture(const struct dataset *set, uint32_t i)
{
    byol_image image = BYOL_IMAGE_INIT;
    image.format = BYOL_FORMAT_GRAY8;
    image.width = set->width;
    image.height = set->height;
    image.data_len = (size_t)set->width * set->height;
    image.data = set->pixels + i * image.data_len;
    return image;
}

static void extract(byol_encoder encoder, struct dataset *set, size_t dimension)
{
    const byol_cancel never = {0};
    byol_error error = BYOL_ERROR_INIT;
    byol_image *images = allocate(set->count, sizeof *images);
    size_t length = set->count * dimension;
    set->features = allocate(length, sizeof *set->features);
    for (uint32_t i = 0; i < set->count; i++)
        images[i] = picture(set, i);
    check(byol_extract(encoder, images, set->count, NULL, set->features, 0, length, NULL, never, &error), "extract", &error);
    free(images);
}

/* Fits a head on the training features, and gives its accuracy on those of the test. */
static double fit(byol_encoder encoder, const struct dataset *train, const struct dataset *test, size_t dimension,
                  byol_head *head)
{
    static const char *const names[] = {"T-shirt", "trousers", "pullover", "dress", "coat",
                                        "sandal",  "shirt",    "sneaker",  "bag",   "ankle boot"};
    const byol_cancel never = {0};
    byol_error error = BYOL_ERROR_INIT;
    byol_metrics metrics = BYOL_METRICS_INIT;
    check(byol_head_fit(train->features, train->count, dimension, 0, train->classes, names, 10, encoder, NULL, NULL, NULL,
                        never, head, NULL, &error), "fit", &error);
    check(byol_head_evaluate(*head, test->features, test->count, dimension, 0, test->classes, &metrics, NULL, 0, NULL, 0,
                             &error), "evaluate", &error);
    return metrics.top1;
}

/* The first `each` examples of every class. */
static struct dataset few(const struct dataset *set, size_t dimension, uint32_t each)
{
    uint32_t seen[10] = {0};
    struct dataset small = {0};
    small.classes = allocate(10 * each, sizeof *small.classes);
    small.features = allocate(10 * each * dimension, sizeof *small.features);
    for (uint32_t i = 0; i < set->count; i++) {
        uint32_t class_index = set->classes[i];
        if (class_index >= 10 || seen[class_index]++ >= each)
            continue;
        small.classes[small.count] = class_index;
        memcpy(small.features + small.count++ * dimension, set->features + i * dimension, dimension * sizeof(float));
    }
    return small;
}

int main(int argc, char **argv)
{
    const byol_runtime any = {0};
    const byol_cancel never = {0};
    byol_error error = BYOL_ERROR_INIT;
    byol_source source = BYOL_SOURCE_INIT;
    byol_encoder_info info = BYOL_ENCODER_INFO_INIT;
    byol_encoder encoder = {0};
    byol_head head = {0}, head10 = {0}, loaded = {0};
    int json = argc == 5 && strcmp(argv[4], "--json") == 0;
    if (argc != 4 && !json) {
        fprintf(stderr, "usage: classify ENCODER.onnx DATA_DIR HEAD_OUT [--json]\n");
        return 2;
    }

    source.path = argv[1];
    check(byol_abi_check(BYOL_VERSION_MAJOR, BYOL_VERSION_MINOR, &error), "libbyol", &error);
    check(byol_encoder_open(any, &source, NULL, &encoder, &error), "open", &error);
    check(byol_encoder_get_info(encoder, &info, &error), "info", &error);
    struct dataset train = read_dataset(argv[2], "train"), test = read_dataset(argv[2], "t10k");

    double start = now();
    extract(encoder, &train, info.dimension);
    extract(encoder, &test, info.dimension);
    double extract_seconds = now() - start;

    start = now();
    double linear = fit(encoder, &train, &test, info.dimension, &head);
    double fit_seconds = now() - start;
    struct dataset train10 = few(&train, info.dimension, 10);
    double linear10 = fit(encoder, &train10, &test, info.dimension, &head10);

    /* What a host application would do later, with nothing but the two files. */
    check(byol_head_save(head, argv[3], &error), "save", &error);
    check(byol_head_load(argv[3], &loaded, &error), "load", &error);

    if (json) {
        printf("{\"linear\": %.4f, \"linear10\": %.4f, \"extract_seconds\": %.3f, \"fit_seconds\": %.3f}\n", linear,
               linear10, extract_seconds, fit_seconds);
    } else {
        printf("libbyol %s, %u features per picture\n", byol_version_string(), info.dimension);
        printf("%u + %u pictures extracted in %.1f s, head fitted in %.2f s\n", train.count, test.count, extract_seconds,
               fit_seconds);
        printf("accuracy, all labels:          %.3f\naccuracy, 10 labels per class: %.3f\n\n", linear, linear10);
        for (uint32_t i = 0; i < 8 && i < test.count; i++) {
            byol_image image = picture(&test, i);
            uint32_t best = 0;
            float probabilities[10];
            char name[64], truth[64];
            check(byol_head_classify(loaded, encoder, &image, 1, NULL, &best, probabilities, 10, NULL, never, &error),
                  "classify", &error);
            check(byol_head_get_label(loaded, best, name, sizeof name, NULL, &error), "label", &error);
            check(byol_head_get_label(loaded, test.classes[i], truth, sizeof truth, NULL, &error), "label", &error);
            printf("test picture %u: %-10s %3.0f%%  (is: %s)\n", i, name, 100 * (double)probabilities[best], truth);
        }
    }

    struct dataset *sets[] = {&train, &test, &train10};
    for (size_t i = 0; i < 3; i++)
        free(sets[i]->pixels), free(sets[i]->labels), free(sets[i]->classes), free(sets[i]->features);
    byol_head_close(head, NULL);
    byol_head_close(head10, NULL);
    byol_head_close(loaded, NULL);
    byol_encoder_close(encoder, NULL);
    return 0;
}
