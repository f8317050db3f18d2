/* Prints, bit by bit, what libbyol makes of the golden inputs: golden ROOT, where tests/bindings/golden.sh tells more. */
#include <byol.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PICTURES = 12, CLASSES = 3, WIDTH = 9, HEIGHT = 7, GAP = 3 };

static void check(byol_status status, const byol_error *error)
{
    if (status != BYOL_OK) {
        fprintf(stderr, "golden: %s\n", error->message);
        exit(1);
    }
}

static void print_floats(const char *what, size_t i, const float *values, size_t n)
{
    printf("%s %zu", what, i);
    for (size_t k = 0; k < n; k++) {
        uint32_t bits;
        memcpy(&bits, values + k, sizeof bits);
        printf(" %08x", (unsigned)bits);
    }
    putchar('\n');
}

static void print_doubles(const char *what, const double *values, size_t n)
{
    printf("%s", what);
    for (size_t k = 0; k < n; k++) {
        uint64_t bits;
        memcpy(&bits, values + k, sizeof bits);
        printf(" %016llx", (unsigned long long)bits);
    }
    putchar('\n');
}

static void print_head(const char *what, byol_head head, const float *features, size_t n)
{
    byol_error error = BYOL_ERROR_INIT;
    uint32_t labels[PICTURES];
    float logits[PICTURES * CLASSES], probabilities[PICTURES * CLASSES];
    char name[64];
    check(byol_head_logits(head, features, PICTURES, n, 0, logits, PICTURES * CLASSES, &error), &error);
    check(byol_head_predict(head, features, PICTURES, n, 0, labels, probabilities, PICTURES * CLASSES, &error), &error);
    for (size_t i = 0; i < PICTURES; i++) {
        snprintf(name, sizeof name, "%s.logits", what);
        print_floats(name, i, logits + i * CLASSES, CLASSES);
        snprintf(name, sizeof name, "%s.probabilities", what);
        print_floats(name, i, probabilities + i * CLASSES, CLASSES);
        check(byol_head_get_label(head, labels[i], name, sizeof name, NULL, &error), &error);
        printf("%s.label %zu %s\n", what, i, name);
    }
}

int main(int argc, char **argv)
{
    static const char *const names[CLASSES] = {"bag", "sneaker", "trouser"};
    static const size_t bytes_per_pixel[] = {0, 1, 3, 3, 4, 4, 4, 2, 6, 0, 0, 1, 1};
    const byol_cancel never = {0};
    byol_error error = BYOL_ERROR_INIT;
    byol_source source = BYOL_SOURCE_INIT;
    byol_encoder_info info = BYOL_ENCODER_INFO_INIT;
    byol_fit_report report = BYOL_FIT_REPORT_INIT;
    byol_metrics metrics = BYOL_METRICS_INIT;
    byol_encoder encoder = {0};
    byol_head head = {0}, golden = {0}, taught = {0}, imprinted = {0};
    byol_features container = {0};
    byol_trainer trainer = {0};
    float cosines[PICTURES * 3], scales[PICTURES];
    uint32_t nearest[PICTURES * 3], class_index;
    char paths[PICTURES][1024], path[1024];
    const char *pointers[PICTURES];
    uint32_t labels[PICTURES], neighbours[PICTURES];
    if (argc != 2)
        return 2;
    snprintf(path, sizeof path, "%s/tests/data/encoder/uint8.onnx", argv[1]);
    source.path = path;
    check(byol_encoder_open((byol_runtime){0}, &source, NULL, &encoder, &error), &error);
    check(byol_encoder_get_info(encoder, &info, &error), &error);
    size_t n = info.dimension;
    float *features = calloc(PICTURES * n, sizeof *features), *one = calloc(n, sizeof *one);
    for (uint32_t i = 0; i < PICTURES; i++) {
        snprintf(paths[i], sizeof paths[i], "%s/tests/data/pictures/%s/%u.png", argv[1], names[i / 4], i % 4);
        pointers[i] = paths[i];
        labels[i] = i / 4;
    }
    check(byol_extract_files(encoder, pointers, PICTURES, NULL, features, 0, PICTURES * n, NULL, never, &error), &error);
    for (size_t i = 0; i < PICTURES; i++)
        print_floats("files", i, features + i * n, n);
    for (uint32_t format = BYOL_FORMAT_GRAY8; format <= BYOL_FORMAT_NV12_FULL; format++) {
        static unsigned char pixels[2 * HEIGHT * (WIDTH * 6 + GAP)];
        const size_t rows = format >= BYOL_FORMAT_NV12 ? HEIGHT + (HEIGHT + 1) / 2 : HEIGHT;
        byol_image image = BYOL_IMAGE_INIT;
        uint32_t noise = 7 + format;
        /* Those of whole numbers: of any bytes they are pictures. */
        if (bytes_per_pixel[format] == 0)
            continue;
        image.format = format, image.width = WIDTH, image.height = HEIGHT;
        image.stride = WIDTH * bytes_per_pixel[format] + GAP;
        image.data = pixels, image.data_len = rows * image.stride;
        for (size_t k = 0; k < image.data_len; k++) {
            noise = noise * 1664525u + 1013904223u;
            pixels[k] = (unsigned char)(noise >> 24);
        }
        check(byol_extract(encoder, &image, 1, NULL, one, 0, n, NULL, never, &error), &error);
        print_floats("pixels", format, one, n);
        if (format == BYOL_FORMAT_RGB8) {
            image.region_x = 1, image.region_y = 2, image.region_width = 5, image.region_height = 4, image.orientation = 6;
            check(byol_extract(encoder, &image, 1, NULL, one, 0, n, NULL, never, &error), &error);
            print_floats("turned", 6, one, n);
        }
    }
    check(byol_head_fit(features, PICTURES, n, 0, labels, names, CLASSES, encoder, NULL, NULL, NULL, never, &head, &report,
                        &error), &error);
    printf("fit %llu %llu\n", (unsigned long long)report.iterations, (unsigned long long)report.passes);
    print_doubles("fit.objective", &report.objective, 1);
    print_head("fitted", head, features, n);
    snprintf(path, sizeof path, "%s/tests/data/golden/head.safetensors", argv[1]);
    check(byol_head_load(path, &golden, &error), &error);
    print_head("kept", golden, features, n);
    check(byol_head_evaluate(golden, features, PICTURES, n, 0, labels, &metrics, NULL, 0, NULL, 0, &error), &error);
    const double measured[] = {metrics.top1, metrics.balanced, metrics.log_loss, metrics.calibration_error};
    print_doubles("metrics", measured, 4);
    check(byol_knn_predict(features, PICTURES, 0, labels, features, PICTURES, 0, n, 5, 0.1f, neighbours, &error), &error);
    for (size_t i = 0; i < PICTURES; i++)
        printf("neighbours %zu %u\n", i, (unsigned)neighbours[i]);
    check(byol_features_create(encoder, 0, &container, &error), &error);
    check(byol_features_append(container, features, PICTURES, n, 0, labels, NULL, &error), &error);
    check(byol_features_nearest(container, features, PICTURES, n, 0, 3, nearest, PICTURES * 3, cosines, PICTURES * 3, &error),
          &error);
    for (size_t i = 0; i < PICTURES; i++) {
        printf("nearest %zu %u %u %u\n", i, (unsigned)nearest[3 * i], (unsigned)nearest[3 * i + 1], (unsigned)nearest[3 * i + 2]);
        print_floats("cosines", i, cosines + 3 * i, 3);
    }
    int8_t *packed = calloc(PICTURES * n, 1);
    check(byol_pack(features, PICTURES, n, 0, BYOL_ELEMENT_I8, packed, PICTURES * n, scales, &error), &error);
    for (size_t i = 0; i < PICTURES; i++) {
        int sum = 0;
        for (size_t k = 0; k < n; k++)
            sum += packed[i * n + k];
        print_floats("scale", i, scales + i, 1);
        printf("packed %zu %d\n", i, sum);
    }
    check(byol_trainer_create(encoder, 0, &trainer, &error), &error);
    for (uint32_t i = 0; i < CLASSES; i++)
        check(byol_trainer_add_class(trainer, names[i], &class_index, &error), &error);
    check(byol_trainer_add(trainer, features, PICTURES, n, 0, labels, NULL, &error), &error);
    check(byol_trainer_fit(trainer, NULL, NULL, NULL, never, &taught, NULL, &error), &error);
    print_head("taught", taught, features, n);
    check(byol_trainer_imprint(trainer, 10, &imprinted, &error), &error);
    print_head("imprinted", imprinted, features, n);
    byol_features_close(container, NULL);
    byol_trainer_close(trainer, NULL);
    byol_head_close(taught, NULL);
    byol_head_close(imprinted, NULL);
    free(packed);
    byol_head_close(head, NULL);
    byol_head_close(golden, NULL);
    byol_encoder_close(encoder, NULL);
    free(features), free(one);
    return 0;
}
