/* The whole way: inspect, open, extract in every form, fit, predict, evaluate, save, load, classify. */
#include "check.h"

#include <math.h>

static int32_t count_calls(void *user, uint64_t iteration, double objective, double gap)
{
    int *calls = user;
    (void)gap;
    CHECK(objective > 0);
    (void)iteration;
    ++*calls;
    return 0;
}

static int32_t stop_at_once(void *user, uint64_t iteration, double objective, double gap)
{
    (void)user, (void)iteration, (void)objective, (void)gap;
    return 7;
}

int main(int argc, char **argv)
{
    static struct pictures set;
    static unsigned char rgba[SIDE * (SIDE + 3) * 4];
    const byol_runtime any = {0};
    const byol_cancel never = {0};
    byol_runtime runtime = {0};
    byol_source source = BYOL_SOURCE_INIT;
    byol_model_info model = BYOL_MODEL_INFO_INIT;
    byol_encoder_info info = BYOL_ENCODER_INFO_INIT;
    byol_encoder encoder, other, memory = {0};
    byol_head head = {0}, loaded = {0};
    byol_fit_options fit = BYOL_FIT_OPTIONS_INIT;
    byol_fit_report report = BYOL_FIT_REPORT_INIT;
    byol_metrics metrics = BYOL_METRICS_INIT;
    byol_head_info about = BYOL_HEAD_INFO_INIT;
    const char *const names[CLASSES] = {"top", "upper", "lower", "b\xc3\xb6ttom"};
    uint32_t dimension, predicted[COUNT], best[COUNT];
    float *features, *again, *strided, *probabilities, *logits;
    byol_status status[COUNT];
    double per_class[3 * CLASSES];
    uint64_t confusion[CLASSES * CLASSES];
    char text[256], path[1024];
    unsigned char *file, *bytes;
    size_t length, needed = 0;
    int calls = 0;

    if (argc != 4)
        return 2;
    pictures_make(&set);
    EXPECT(BYOL_OK, byol_abi_check(BYOL_VERSION_MAJOR, BYOL_VERSION_MINOR, E));
    EXPECT(BYOL_E_ABI, byol_abi_check(BYOL_VERSION_MAJOR + 1, 0, E));
    EXPECT(BYOL_E_ABI, byol_abi_check(BYOL_VERSION_MAJOR, BYOL_VERSION_MINOR + 1, E));
    CHECK(byol_version() == BYOL_VERSION_NUMBER);
    CHECK(strcmp(byol_version_string(), BYOL_VERSION_STRING) == 0);

    /* The model, before and after it is opened. */
    source.path = argv[1];
    MUST(byol_model_inspect(&source, &model, E));
    CHECK(model.input_type == BYOL_TENSOR_U8 && model.channels == 1 && model.height == SIDE && model.width == SIDE);
    CHECK(model.has_contract == 1 && model.has_external_data == 0 && model.nodes > 0 && strlen(model.sha256) == 64);
    MUST(byol_runtime_create(NULL, &runtime, E));
    MUST(byol_encoder_open(runtime, &source, NULL, &encoder, E));
    byol_runtime_close(runtime, NULL);
    MUST(byol_encoder_get_info(encoder, &info, E));
    dimension = info.dimension;
    CHECK(dimension == model.dimension && strcmp(info.sha256, model.sha256) == 0);
    CHECK(info.channels == 1 && info.height == SIDE && info.resize == BYOL_RESIZE_STRETCH && info.threads >= 1);
    CHECK(info.deviation[0] > 0 && info.deviation[1] == 0);
    file = file_read(argv[1], &length);
    source.path = NULL;
    source.data = file;
    source.data_len = length;
    source.sha256 = model.sha256;
    MUST(byol_encoder_open(any, &source, NULL, &memory, E));
    free(file);
    other = encoder_open(argv[2]);
    CHECK(byol_live_handles(BYOL_KIND_ENCODER) == 3 && byol_live_handles(BYOL_KIND_ANY) == 3);
    for (size_t i = 0; byol_encoder_get_metadata_key(encoder, i, text, sizeof text, NULL, NULL) == BYOL_OK; i++) {
        EXPECT(BYOL_OK, byol_encoder_get_metadata(encoder, text, NULL, 0, &needed, E));
        CHECK(needed > 0);
        calls++;
    }
    CHECK(calls > 3);
    EXPECT(BYOL_E_NOT_FOUND, byol_encoder_get_metadata(encoder, "no.such.key", text, sizeof text, NULL, E));
    EXPECT(BYOL_OK, byol_build_info(NULL, 0, &needed, E));
    CHECK(needed > 50);
    file = malloc(needed);
    EXPECT(BYOL_E_BUFFER_TOO_SMALL, byol_build_info((char *)file, needed - 1, &needed, E));
    EXPECT(BYOL_OK, byol_build_info((char *)file, needed, &needed, E));
    CHECK(strlen((char *)file) + 1 == needed && strstr((char *)file, "onnxruntime"));
    free(file);

    /* Features: the same in whatever form the pictures come. */
    length = (size_t)COUNT * dimension;
    features = calloc(length, sizeof *features);
    again = calloc(length, sizeof *again);
    strided = malloc(COUNT * (size_t)(dimension + 5) * sizeof *strided);
    probabilities = malloc(COUNT * CLASSES * sizeof *probabilities);
    logits = malloc(COUNT * CLASSES * sizeof *logits);
    MUST(byol_extract(encoder, set.images, COUNT, NULL, features, 0, length, NULL, never, E));
    MUST(byol_extract(memory, set.images, COUNT, NULL, again, dimension, length, status, never, E));
    CHECK(memcmp(features, again, length * sizeof *features) == 0 && status[0] == BYOL_OK && status[COUNT - 1] == BYOL_OK);
    MUST(byol_extract_tensor(encoder, set.pixels, sizeof set.pixels, BYOL_TENSOR_U8, COUNT, NULL, again, 0, length, never, E));
    CHECK(memcmp(features, again, length * sizeof *features) == 0);
    for (size_t i = 0; i < COUNT * (size_t)(dimension + 5); i++)
        strided[i] = -77;
    MUST(byol_extract(encoder, set.images, COUNT, NULL, strided, dimension + 5, COUNT * (size_t)(dimension + 5) - 5, NULL,
                      never, E));
    for (size_t i = 0; i < COUNT; i++) {
        CHECK(memcmp(strided + i * (dimension + 5), features + i * dimension, dimension * sizeof *features) == 0);
        CHECK(strided[i * (dimension + 5) + dimension] == -77);
    }
    {
        byol_image image = BYOL_IMAGE_INIT;
        size_t stride = (SIDE + 3) * 4;
        for (size_t y = 0; y < SIDE; y++)
            for (size_t x = 0; x < SIDE; x++)
                memset(rgba + y * stride + x * 4, set.pixels[3][y * SIDE + x], 3);
        image.format = BYOL_FORMAT_BGRA8, image.width = SIDE, image.height = SIDE;
        image.stride = stride, image.data = rgba, image.data_len = sizeof rgba - 12;
        MUST(byol_extract(encoder, &image, 1, NULL, again, 0, length, NULL, never, E));
        for (size_t i = 0; i < dimension; i++)
            CHECK(fabsf(again[i] - features[3 * dimension + i]) < 0.02f * (1 + fabsf(again[i])));
    }

    /* A bad picture: alone it fails the call, with statuses it is left out. */
    set.images[5].data_len--;
    set.images[9].format = 99;
    memset(again, 0, length * sizeof *again);
    EXPECT(BYOL_E_INVALID_ARG, byol_extract(encoder, set.images, COUNT, NULL, again, 0, length, NULL, never, E));
    {
        byol_error error = BYOL_ERROR_INIT;
        CHECK(byol_extract(encoder, set.images, COUNT, NULL, again, 0, length, NULL, never, &error) != BYOL_OK);
        CHECK(error.item_index == 5 && again[0] == 0);
    }
    MUST(byol_extract(encoder, set.images, COUNT, NULL, again, 0, length, status, never, E));
    CHECK(status[4] == BYOL_OK && status[5] == BYOL_E_INVALID_ARG && status[9] == BYOL_E_INVALID_ARG);
    CHECK(memcmp(again, features, 5 * dimension * sizeof *again) == 0 && again[5 * dimension] == 0);
    CHECK(memcmp(again + 10 * dimension, features + 10 * dimension, dimension * sizeof *again) == 0);
    MUST(byol_extract(encoder, set.images + 5, 1, NULL, again, 0, length, status, never, E));
    set.images[5].data_len++;
    set.images[9].format = BYOL_FORMAT_GRAY8;

    /* Encoded pictures and files: a 2 x 2 binary BMP, and bytes that are none. */
    {
        static const unsigned char bmp[] = {'B', 'M', 70, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0, 2, 0, 0, 0, 2, 0,
                                            0,   0,   1,  0, 24, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                            0,   0,   0,  0, 0, 0, 10, 20, 30, 40, 50, 60, 0, 0, 70, 80, 90, 99, 9, 1, 0, 0};
        const unsigned char *data[2] = {bmp, bmp + 1};
        const size_t lengths[2] = {sizeof bmp, sizeof bmp - 1};
        const char *paths[2] = {path, "no/such/picture.bmp"};
        FILE *out;
        MUST(byol_extract_encoded(encoder, data, lengths, 2, NULL, again, 0, length, status, never, E));
        CHECK(status[0] == BYOL_OK && status[1] == BYOL_E_IMAGE_DECODE);
        EXPECT(BYOL_E_IMAGE_DECODE, byol_extract_encoded(encoder, data, lengths, 2, NULL, again, 0, length, NULL, never, E));
        snprintf(path, sizeof path, "%s/picture.bmp", argv[3]);
        out = fopen(path, "wb");
        CHECK(out && fwrite(bmp, sizeof bmp, 1, out) == 1 && fclose(out) == 0);
        MUST(byol_extract_files(encoder, paths, 2, NULL, again + dimension, 0, 2 * dimension, status, never, E));
        CHECK(status[0] == BYOL_OK && status[1] == BYOL_E_NOT_FOUND);
        CHECK(memcmp(again, again + dimension, dimension * sizeof *again) == 0);
    }

    /* A head: fitted, judged, kept. */
    MUST(byol_head_fit(features, COUNT, dimension, 0, set.labels, names, CLASSES, encoder, &fit, count_calls, &calls, never,
                       &head, &report, E));
    CHECK(report.converged == 1 && report.gap >= 0 && report.gap <= fit.tolerance && report.iterations > 0);
    CHECK(calls >= 4 + (int)report.iterations);
    MUST(byol_head_predict(head, features, COUNT, dimension, 0, predicted, probabilities, COUNT * CLASSES, E));
    MUST(byol_head_logits(head, features, COUNT, dimension, 0, logits, COUNT * CLASSES, E));
    MUST(byol_head_evaluate(head, features, COUNT, dimension, 0, set.labels, &metrics, per_class, 3 * CLASSES, confusion,
                            CLASSES * CLASSES, E));
    CHECK(metrics.top1 > 0.99 && metrics.examples == COUNT && metrics.top5 > 0.99 && metrics.log_loss < 0.5);
    CHECK(metrics.top1_low < 1 && metrics.top1_high > 0.99 && per_class[0] > 0.99 && confusion[0] == COUNT / CLASSES);
    for (size_t i = 0; i < COUNT; i++) {
        float sum = 0, *p = probabilities + i * CLASSES, *l = logits + i * CLASSES;
        for (size_t c = 0; c < CLASSES; c++) {
            sum += p[c];
            CHECK(p[predicted[i]] >= p[c] && l[predicted[i]] >= l[c]);
        }
        CHECK(fabsf(sum - 1) < 1e-5f);
        CHECK(predicted[i] == set.labels[i]);
    }
    MUST(byol_head_predict(head, strided, COUNT, dimension, dimension + 5, best, NULL, 0, E));
    CHECK(memcmp(best, predicted, sizeof best) == 0);
    MUST(byol_knn_predict(features, COUNT, 0, set.labels, features, COUNT, 0, dimension, 1, 0, best, E));
    CHECK(memcmp(best, set.labels, sizeof best) == 0);
    snprintf(path, sizeof path, "%s/head.safetensors", argv[3]);
    MUST(byol_head_save(head, path, E));
    MUST(byol_head_load(path, &loaded, E));
    MUST(byol_head_get_info(loaded, &about, E));
    CHECK(about.classes == CLASSES && about.dimension == dimension && about.examples == COUNT && about.converged == 1);
    CHECK(strcmp(about.encoder_sha256, info.sha256) == 0 && fabs(about.l2 - fit.l2) < 1e-12);
    MUST(byol_head_get_label(loaded, 3, text, sizeof text, &needed, E));
    CHECK(strcmp(text, names[3]) == 0 && needed == strlen(names[3]) + 1);
    EXPECT(BYOL_E_NOT_FOUND, byol_head_get_label(loaded, CLASSES, text, sizeof text, &needed, E));
    EXPECT(BYOL_E_BUFFER_TOO_SMALL, byol_head_get_label(loaded, 0, text, 3, &needed, E));
    CHECK(needed == 4);
    MUST(byol_head_save_bytes(loaded, NULL, 0, &needed, E));
    bytes = malloc(needed);
    MUST(byol_head_save_bytes(loaded, bytes, needed, NULL, E));
    file = file_read(path, &length);
    CHECK(length == needed && memcmp(file, bytes, needed) == 0);
    byol_head_close(loaded, NULL);
    for (size_t cut = 0; cut < needed; cut += cut < 64 ? 1 : 97)
        CHECK(byol_head_load_bytes(bytes, cut, &loaded, NULL) == BYOL_E_CORRUPT);
    MUST(byol_head_load_bytes(bytes, needed, &loaded, E));

    /* With the encoder it belongs to, and with another. */
    EXPECT(BYOL_OK, byol_head_check(loaded, memory, E));
    EXPECT(BYOL_E_WRONG_ENCODER, byol_head_check(loaded, other, E));
    memset(best, 0xff, sizeof best);
    set.images[2].data = NULL;
    MUST(byol_head_classify(loaded, encoder, set.images, COUNT, NULL, best, probabilities, COUNT * CLASSES, status, never, E));
    CHECK(status[2] == BYOL_E_NULL_POINTER && best[2] == UINT32_MAX && best[0] == predicted[0] && best[3] == predicted[3]);
    set.images[2].data = set.pixels[2];
    EXPECT(BYOL_E_WRONG_ENCODER,
           byol_head_classify(loaded, other, set.images, COUNT, NULL, best, NULL, 0, NULL, never, E));

    /* What can be wrong with examples. */
    byol_head_close(head, NULL);
    head.id = 0;
    calls = 0;
    EXPECT(BYOL_E_CANCELLED, byol_head_fit(features, COUNT, dimension, 0, set.labels, NULL, CLASSES, encoder, NULL,
                                           stop_at_once, NULL, never, &head, &report, E));
    EXPECT(BYOL_E_DATA, byol_head_fit(features, COUNT, dimension, 0, set.labels, NULL, CLASSES + 1, encoder, NULL, NULL,
                                      NULL, never, &head, NULL, E));
    EXPECT(BYOL_E_LABEL, byol_head_fit(features, COUNT, dimension, 0, set.labels, NULL, CLASSES - 1, encoder, NULL, NULL,
                                       NULL, never, &head, NULL, E));
    EXPECT(BYOL_E_SHAPE, byol_head_fit(features, COUNT, dimension - 1, 0, set.labels, NULL, CLASSES, encoder, NULL, NULL,
                                       NULL, never, &head, NULL, E));
    EXPECT(BYOL_E_DATA, byol_head_fit(features, 0, dimension, 0, set.labels, NULL, CLASSES, encoder, NULL, NULL, NULL,
                                      never, &head, NULL, E));
    fit.l2 = -1;
    EXPECT(BYOL_E_INVALID_ARG, byol_head_fit(features, COUNT, dimension, 0, set.labels, NULL, CLASSES, encoder, &fit, NULL,
                                             NULL, never, &head, NULL, E));
    features[7 * dimension + 1] = NAN;
    {
        byol_error error = BYOL_ERROR_INIT;
        CHECK(byol_head_fit(features, COUNT, dimension, 0, set.labels, NULL, CLASSES, encoder, NULL, NULL, NULL, never,
                            &head, NULL, &error) == BYOL_E_NON_FINITE);
        CHECK(error.item_index == 7);
        CHECK(byol_head_predict(loaded, features, COUNT, dimension, 0, best, NULL, 0, &error) == BYOL_E_NON_FINITE);
        CHECK(error.item_index == 7);
    }
    CHECK(head.id == 0);

    byol_head_close(loaded, NULL);
    byol_encoder_close(encoder, NULL);
    byol_encoder_close(memory, NULL);
    byol_encoder_close(other, NULL);
    free(features), free(again), free(strided), free(probabilities), free(logits), free(bytes), free(file);
    return check_end("flow");
}
