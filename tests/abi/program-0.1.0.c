/*
 * A program of the time of 0.1.0: run.sh compiles it with that version's header and runs it on today's library. Never
 * change it; what it does must work on every 0.x.
 */
#include <byol.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST(call)                                                                          \
    do {                                                                                    \
        if ((call) != BYOL_OK) {                                                            \
            printf("%s: %s\n", #call, error.message);                                       \
            return 1;                                                                       \
        }                                                                                   \
    } while (0)
#define CHECK(condition)                                                                    \
    do {                                                                                    \
        if (!(condition)) {                                                                 \
            printf("not so: %s\n", #condition);                                             \
            return 1;                                                                       \
        }                                                                                   \
    } while (0)

enum { SIDE = 28, COUNT = 12 };

int main(int argc, char **argv)
{
    static unsigned char pixels[COUNT][SIDE * SIDE];
    static char text[4096];
    const byol_cancel never = {0};
    byol_runtime runtime = {0};
    byol_encoder encoder = {0}, none = {0};
    byol_head head = {0}, loaded = {0};
    byol_cancel token = {0};
    byol_error error = BYOL_ERROR_INIT;
    byol_source source = BYOL_SOURCE_INIT;
    byol_model_info model = BYOL_MODEL_INFO_INIT;
    byol_encoder_options options = BYOL_ENCODER_OPTIONS_INIT;
    byol_encoder_info info = BYOL_ENCODER_INFO_INIT;
    byol_extract_options how = BYOL_EXTRACT_OPTIONS_INIT;
    byol_fit_options fit = BYOL_FIT_OPTIONS_INIT;
    byol_fit_report report = BYOL_FIT_REPORT_INIT;
    byol_head_info about = BYOL_HEAD_INFO_INIT;
    byol_metrics metrics = BYOL_METRICS_INIT;
    byol_image images[COUNT];
    byol_status statuses[COUNT];
    uint32_t labels[COUNT], predicted[COUNT];
    float *features, probabilities[COUNT * 2];
    size_t needed = 0, n;
    unsigned char *bytes;
    if (argc != 2)
        return 2;
    for (uint32_t i = 0; i < COUNT; i++) {
        byol_image image = BYOL_IMAGE_INIT;
        for (uint32_t p = 0; p < SIDE * SIDE; p++)
            pixels[i][p] = (unsigned char)((p < SIDE * SIDE / 2) == (i % 2 == 0) ? 200 + i : 20 + p % 7);
        image.format = BYOL_FORMAT_GRAY8, image.width = image.height = SIDE;
        image.data = pixels[i], image.data_len = sizeof pixels[i];
        images[i] = image;
        labels[i] = i % 2;
    }
    MUST(byol_abi_check(BYOL_VERSION_MAJOR, BYOL_VERSION_MINOR, &error));
    MUST(byol_runtime_create(NULL, &runtime, &error));
    source.path = argv[1];
    MUST(byol_model_inspect(&source, &model, &error));
    source.sha256 = model.sha256;
    MUST(byol_encoder_open(runtime, &source, &options, &encoder, &error));
    MUST(byol_encoder_get_info(encoder, &info, &error));
    CHECK(info.height == SIDE && info.dimension > 0 && strcmp(info.sha256, model.sha256) == 0);
    n = info.dimension;
    features = calloc(COUNT, n * sizeof *features);
    CHECK(features);
    MUST(byol_cancel_create(60000, &token, &error));
    MUST(byol_extract(encoder, images, COUNT, &how, features, 0, COUNT * n, statuses, token, &error));
    CHECK(statuses[0] == BYOL_OK && statuses[COUNT - 1] == BYOL_OK);
    MUST(byol_head_fit(features, COUNT, n, 0, labels, NULL, 2, encoder, &fit, NULL, NULL, never, &head, &report, &error));
    CHECK(report.converged == 1 && report.gap <= fit.tolerance);
    MUST(byol_head_predict(head, features, COUNT, n, 0, predicted, probabilities, COUNT * 2, &error));
    CHECK(memcmp(predicted, labels, sizeof labels) == 0 && fabsf(probabilities[0] + probabilities[1] - 1) < 1e-5f);
    MUST(byol_head_evaluate(head, features, COUNT, n, 0, labels, &metrics, NULL, 0, NULL, 0, &error));
    CHECK(metrics.top1 > 0.99 && metrics.examples == COUNT);
    MUST(byol_head_save_bytes(head, NULL, 0, &needed, &error));
    bytes = malloc(needed);
    CHECK(bytes);
    MUST(byol_head_save_bytes(head, bytes, needed, NULL, &error));
    MUST(byol_head_load_bytes(bytes, needed, &loaded, &error));
    MUST(byol_head_get_info(loaded, &about, &error));
    CHECK(about.classes == 2 && strcmp(about.encoder_sha256, info.sha256) == 0);
    MUST(byol_head_classify(loaded, encoder, images, COUNT, NULL, predicted, NULL, 0, NULL, never, &error));
    CHECK(memcmp(predicted, labels, sizeof labels) == 0);
    MUST(byol_knn_predict(features, COUNT, 0, labels, features, COUNT, 0, n, 1, 0, predicted, &error));
    CHECK(memcmp(predicted, labels, sizeof labels) == 0);
    MUST(byol_build_info(text, sizeof text, &needed, &error));
    CHECK(byol_encoder_get_info(none, &info, &error) == BYOL_E_HANDLE && error.code == BYOL_E_HANDLE);
    MUST(byol_head_close(head, &error));
    MUST(byol_head_close(loaded, &error));
    MUST(byol_cancel_close(token, &error));
    MUST(byol_encoder_close(encoder, &error));
    MUST(byol_runtime_close(runtime, &error));
    CHECK(byol_live_handles(BYOL_KIND_ANY) == 0);
    free(features), free(bytes);
    return 0;
}
