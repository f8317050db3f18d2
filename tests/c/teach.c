/* Trainers and containers of features, and what heads can become: everything that is made of features. */
#include "check.h"

#include <math.h>

struct file {
    const unsigned char *bytes;
    size_t length, at, step;
};

/* Gives a file piece by piece, and fails where step is 0. */
static int64_t read_file(void *user, uint8_t *buffer, size_t capacity)
{
    struct file *file = user;
    size_t count = file->length - file->at;
    if (file->step == 0)
        return -5;
    if (count > file->step)
        count = file->step;
    if (count > capacity)
        count = capacity;
    memcpy(buffer, file->bytes + file->at, count);
    file->at += count;
    return (int64_t)count;
}

static int64_t read_too_much(void *user, uint8_t *buffer, size_t capacity)
{
    (void)user, (void)buffer;
    return (int64_t)capacity + 1;
}

static int32_t count_calls(void *user, uint64_t iteration, double objective, double gap)
{
    (void)iteration, (void)objective, (void)gap;
    ++*(int *)user;
    return 0;
}

static int32_t stop(void *user, uint64_t iteration, double objective, double gap)
{
    (void)user, (void)iteration, (void)objective, (void)gap;
    return 1;
}

static int32_t count_penalties(void *user, double l2, double accuracy, double log_loss)
{
    CHECK(l2 > 0 && accuracy >= 0 && accuracy <= 1 && log_loss >= 0);
    return ++*(int *)user == 1000;
}

static int32_t stop_search(void *user, double l2, double accuracy, double log_loss)
{
    (void)user, (void)l2, (void)accuracy, (void)log_loss;
    return 1;
}

static struct pictures set;
static float features[COUNT * 64], again[COUNT * 64], weights[CLASSES * 64], other_weights[CLASSES * 64], bias[CLASSES];
static float probabilities[COUNT * CLASSES], best[COUNT * 2], similarities[COUNT * COUNT], scales[COUNT];
static uint32_t predicted[COUNT], top[COUNT * 2], nearest[COUNT * 3], labels[COUNT], dimension;
static uint64_t ids[COUNT], more[COUNT];
static byol_status status[COUNT];
static const byol_cancel never = {0};

/* The largest difference of two heads' weights. */
static double apart(byol_head one, byol_head other)
{
    double most = 0;
    MUST(byol_head_get_weights(one, weights, CLASSES * 64, bias, CLASSES, E));
    MUST(byol_head_get_weights(other, other_weights, CLASSES * 64, NULL, 0, E));
    for (size_t i = 0; i < CLASSES * (size_t)dimension; i++)
        most = fmax(most, fabs((double)weights[i] - (double)other_weights[i]));
    return most;
}

static void sources(const char *path, const char *other, const char *folder)
{
    const byol_runtime any = {0};
    byol_source source = BYOL_SOURCE_INIT;
    byol_encoder encoder = {0};
    byol_encoder_info info = BYOL_ENCODER_INFO_INIT;
    byol_model_info model = BYOL_MODEL_INFO_INIT;
    byol_encoder_options options = BYOL_ENCODER_OPTIONS_INIT;
    struct file file = {NULL, 0, 0, 1000};
    file.bytes = file_read(path, &file.length);
    source.read = read_file, source.user = &file;
    MUST(byol_model_inspect(&source, &model, E));
    CHECK(file.at == file.length && model.dimension == dimension);
    file.at = 0, file.step = SIZE_MAX, source.sha256 = model.sha256;
    MUST(byol_encoder_open(any, &source, NULL, &encoder, E));
    MUST(byol_encoder_get_info(encoder, &info, E));
    CHECK(strcmp(info.sha256, model.sha256) == 0);
    MUST(byol_extract(encoder, set.images, COUNT, NULL, again, 0, COUNT * 64, NULL, never, E));
    CHECK(memcmp(again, features, COUNT * dimension * sizeof *again) == 0);
    byol_encoder_close(encoder, NULL);
    file.at = 0;
    options.max_model_bytes = 100;
    EXPECT(BYOL_E_LIMIT, (file.at = 0, byol_encoder_open(any, &source, &options, &encoder, E)));
    source.sha256 = "0000000000000000000000000000000000000000000000000000000000000000";
    EXPECT(BYOL_E_CHECKSUM, (file.at = 0, byol_encoder_open(any, &source, NULL, &encoder, E)));
    source.sha256 = NULL, file.step = 0;
    EXPECT(BYOL_E_IO, byol_encoder_open(any, &source, NULL, &encoder, E));
    source.read = read_too_much;
    EXPECT(BYOL_E_INVALID_ARG, byol_encoder_open(any, &source, NULL, &encoder, E));
    source.path = path;
    EXPECT(BYOL_E_INVALID_ARG, byol_encoder_open(any, &source, NULL, &encoder, E));
    source.path = NULL, source.data = file.bytes, source.data_len = file.length;
    EXPECT(BYOL_E_INVALID_ARG, byol_encoder_open(any, &source, NULL, &encoder, E));

    /* Leave to read further files needs a path; a model without any is the same with it. */
    source.read = NULL, source.flags = BYOL_SOURCE_EXTERNAL_DATA;
    EXPECT(BYOL_E_INVALID_ARG, byol_model_inspect(&source, &model, E));
    source.data = NULL, source.data_len = 0, source.path = path;
    MUST(byol_encoder_open(any, &source, NULL, &encoder, E));
    MUST(byol_encoder_get_info(encoder, &info, E));
    CHECK(strcmp(info.sha256, model.sha256) == 0);
    byol_encoder_close(encoder, NULL);
    (void)other, (void)folder;
    free((void *)(uintptr_t)file.bytes);
}

static void containers(byol_encoder encoder, const char *folder)
{
    static const char *const class_names[CLASSES] = {"top", "upper", "lower", "bottom"};
    const char *row_names[COUNT];
    char path[1024], text[64], names[COUNT][16];
    byol_features container = {0}, plain = {0}, loaded = {0};
    byol_features_info info = BYOL_FEATURES_INFO_INIT;
    size_t needed;
    for (size_t i = 0; i < COUNT; i++) {
        snprintf(names[i], sizeof names[i], "picture %u", (unsigned)i);
        row_names[i] = names[i];
    }
    MUST(byol_features_create(encoder, 0, &container, E));
    EXPECT(BYOL_E_SHAPE, byol_features_create(encoder, dimension + 1, &plain, E));
    EXPECT(BYOL_E_INVALID_ARG, byol_features_create((byol_encoder){0}, 0, &plain, E));
    EXPECT(BYOL_E_DATA, byol_features_similarity(container, features, 1, dimension, 0, similarities, COUNT, E));
    MUST(byol_features_append(container, features, 20, dimension, 0, set.labels, row_names, E));
    MUST(byol_features_append(container, features + 20 * dimension, COUNT - 20, dimension, 0, set.labels + 20, row_names + 20, E));
    MUST(byol_features_append(container, NULL, 0, dimension, 0, NULL, NULL, E));
    EXPECT(BYOL_E_LABEL, byol_features_append(container, features, 1, dimension, 0, NULL, row_names, E));
    EXPECT(BYOL_E_SHAPE, byol_features_append(container, features, 1, dimension - 1, 0, set.labels, row_names, E));
    again[0] = NAN;
    EXPECT(BYOL_E_NON_FINITE, byol_features_append(container, again, 1, dimension, 0, set.labels, row_names, E));
    EXPECT(BYOL_E_LABEL, byol_features_set_classes(container, class_names, CLASSES - 1, E));
    MUST(byol_features_set_classes(container, class_names, CLASSES, E));
    MUST(byol_features_get_info(container, &info, E));
    CHECK(info.rows == COUNT && info.dimension == dimension && info.classes == CLASSES);
    CHECK(info.has_labels == 1 && info.has_names == 1 && info.has_encoder == 1 && strlen(info.encoder_sha256) == 64);
    MUST(byol_features_get_rows(container, 3, 5, again, 0, 5 * dimension, labels, E));
    CHECK(memcmp(again, features + 3 * dimension, 5 * dimension * sizeof *again) == 0 && labels[4] == set.labels[7]);
    EXPECT(BYOL_E_NOT_FOUND, byol_features_get_rows(container, COUNT, 1, again, 0, dimension, labels, E));
    EXPECT(BYOL_E_BUFFER_TOO_SMALL, byol_features_get_rows(container, 0, 2, again, 0, 2 * dimension - 1, labels, E));
    MUST(byol_features_get_name(container, 7, text, sizeof text, &needed, E));
    CHECK(strcmp(text, "picture 7") == 0 && needed == 10);
    MUST(byol_features_get_class(container, 3, text, sizeof text, NULL, E));
    CHECK(strcmp(text, "bottom") == 0);

    /* Neighbours: first itself, then one of its kind; the same numbers as the whole matrix says. */
    MUST(byol_features_similarity(container, features, COUNT, dimension, 0, similarities, COUNT * COUNT, E));
    MUST(byol_features_nearest(container, features, COUNT, dimension, 0, 3, nearest, COUNT * 3, again, COUNT * 3, E));
    for (uint32_t i = 0; i < COUNT; i++) {
        CHECK(nearest[3 * i] == i && set.labels[nearest[3 * i + 1]] == set.labels[i]);
        for (uint32_t k = 0; k < 3; k++)
            CHECK(fabsf(again[3 * i + k] - similarities[i * COUNT + nearest[3 * i + k]]) < 1e-6f);
        for (uint32_t j = 0; j < COUNT; j++)
            CHECK(similarities[i * COUNT + j] <= again[3 * i] + 1e-6f);
    }
    EXPECT(BYOL_E_INVALID_ARG, byol_features_nearest(container, features, 1, dimension, 0, COUNT + 1, nearest, COUNT * 3, NULL, 0, E));

    snprintf(path, sizeof path, "%s/features.safetensors", folder);
    MUST(byol_features_save(container, path, E));
    MUST(byol_features_load(path, &loaded, E));
    MUST(byol_features_get_rows(loaded, 0, COUNT, again, 0, COUNT * 64, labels, E));
    CHECK(memcmp(again, features, COUNT * dimension * sizeof *again) == 0);
    CHECK(memcmp(labels, set.labels, sizeof labels) == 0);
    MUST(byol_features_get_name(loaded, COUNT - 1, text, sizeof text, NULL, E));
    CHECK(strcmp(text, row_names[COUNT - 1]) == 0);
    EXPECT(BYOL_E_CORRUPT, byol_features_save(container, "features.txt", E));
    byol_features_close(loaded, NULL);

    MUST(byol_features_create((byol_encoder){0}, dimension, &plain, E));
    MUST(byol_features_append(plain, features, 2, dimension, 0, NULL, NULL, E));
    EXPECT(BYOL_E_LABEL, byol_features_get_rows(plain, 0, 1, NULL, 0, 0, labels, E));
    EXPECT(BYOL_E_NOT_FOUND, byol_features_get_name(plain, 0, text, sizeof text, NULL, E));
    EXPECT(BYOL_E_INVALID_ARG, byol_features_append(plain, features, 1, dimension, 0, set.labels, NULL, E));
    byol_features_close(plain, NULL);
    byol_features_close(container, NULL);
}

static void packing(byol_encoder encoder)
{
    static uint16_t halves[COUNT * 64];
    static int8_t bytes[COUNT * 64], other[COUNT * 64];
    byol_extract_options options = BYOL_EXTRACT_OPTIONS_INIT;
    float most = 0;
    MUST(byol_pack(features, COUNT, dimension, 0, BYOL_ELEMENT_I8, bytes, sizeof bytes, scales, E));
    MUST(byol_unpack(bytes, sizeof bytes, BYOL_ELEMENT_I8, scales, COUNT, dimension, again, 0, COUNT * 64, E));
    for (size_t i = 0; i < COUNT * (size_t)dimension; i++)
        CHECK(fabsf(again[i] - features[i]) <= 0.5001f * scales[i / dimension]);
    options.element = BYOL_ELEMENT_I8, options.packed = other, options.packed_len = sizeof other, options.scales = scales;
    MUST(byol_extract(encoder, set.images, COUNT, &options, NULL, 0, 0, NULL, never, E));
    CHECK(memcmp(bytes, other, COUNT * dimension) == 0);
    memset(other, 99, sizeof other);
    set.images[1].width = 0;
    MUST(byol_extract(encoder, set.images, 3, &options, NULL, 0, 0, status, never, E));
    CHECK(status[1] == BYOL_E_INVALID_ARG && other[dimension] == 99 && other[0] == bytes[0]);
    CHECK(memcmp(bytes + 2 * dimension, other + 2 * dimension, dimension) == 0);
    EXPECT(BYOL_E_INVALID_ARG, byol_extract(encoder, set.images, 3, &options, NULL, 0, 0, NULL, never, E));
    set.images[1].width = SIDE;
    options.packed_len = 3 * dimension - 1;
    EXPECT(BYOL_E_BUFFER_TOO_SMALL, byol_extract(encoder, set.images, 3, &options, NULL, 0, 0, NULL, never, E));
    options.packed_len++, options.scales = NULL;
    EXPECT(BYOL_E_NULL_POINTER, byol_extract(encoder, set.images, 3, &options, NULL, 0, 0, NULL, never, E));

    MUST(byol_pack(features, COUNT, dimension, 0, BYOL_ELEMENT_F16, halves, sizeof halves, NULL, E));
    MUST(byol_unpack(halves, sizeof halves, BYOL_ELEMENT_F16, NULL, COUNT, dimension, again, dimension + 1, COUNT * 64, E));
    for (size_t i = 0; i < COUNT * (size_t)dimension; i++) {
        const float back = again[i / dimension * (dimension + 1) + i % dimension];
        most = fmaxf(most, fabsf(back - features[i]) - fabsf(features[i]) / 2048);
    }
    CHECK(most < 1e-7f);
    options = (byol_extract_options)BYOL_EXTRACT_OPTIONS_INIT;
    options.element = BYOL_ELEMENT_F16, options.packed = halves, options.packed_len = sizeof halves;
    MUST(byol_extract_tensor(encoder, set.pixels, sizeof set.pixels, BYOL_TENSOR_U8, COUNT, &options, NULL, 0, 0, never, E));
    EXPECT(BYOL_E_INVALID_ARG, byol_pack(features, 1, dimension, 0, BYOL_ELEMENT_F32, halves, sizeof halves, NULL, E));
}

static void heads(byol_head head, byol_encoder encoder, const char *model, const char *folder)
{
    const byol_runtime any = {0};
    const byol_encoder none = {0};
    byol_head made = {0}, copy = {0}, cool = {0};
    byol_head_info info = BYOL_HEAD_INFO_INIT;
    byol_metrics before = BYOL_METRICS_INIT, after = BYOL_METRICS_INIT;
    byol_source source = BYOL_SOURCE_INIT;
    byol_model_info inspected = BYOL_MODEL_INFO_INIT;
    byol_encoder classifier = {0};
    byol_encoder_options options = BYOL_ENCODER_OPTIONS_INIT;
    double temperature = 0;
    char path[1024], text[64];
    unsigned char *file, *bytes;
    size_t length, needed = 0;

    /* The best two of each row; and none where the head is not sure. */
    MUST(byol_head_predict(head, features, COUNT, dimension, 0, predicted, probabilities, COUNT * CLASSES, E));
    MUST(byol_head_top_k(head, features, COUNT, dimension, 0, 2, 0, top, COUNT * 2, best, COUNT * 2, E));
    for (size_t i = 0; i < COUNT; i++) {
        CHECK(top[2 * i] == predicted[i] && best[2 * i] >= best[2 * i + 1] && top[2 * i] != top[2 * i + 1]);
        CHECK(best[2 * i] <= probabilities[i * CLASSES + top[2 * i]] && best[2 * i] >= probabilities[i * CLASSES + top[2 * i]]);
    }
    MUST(byol_head_top_k(head, features, COUNT, dimension, 0, 1, best[6], top, COUNT, NULL, 0, E));
    for (size_t i = 0; i < COUNT; i++)
        CHECK(top[i] == (best[2 * i] >= best[6] ? predicted[i] : BYOL_NO_CLASS));
    EXPECT(BYOL_E_INVALID_ARG, byol_head_top_k(head, features, COUNT, dimension, 0, CLASSES + 1, 0, top, COUNT * 2, NULL, 0, E));

    /* Out of weights, and back into them. */
    MUST(byol_head_get_weights(head, weights, CLASSES * dimension, bias, CLASSES, E));
    EXPECT(BYOL_E_BUFFER_TOO_SMALL, byol_head_get_weights(head, weights, CLASSES * dimension - 1, bias, CLASSES, E));
    MUST(byol_head_create(weights, CLASSES, dimension, 0, bias, NULL, encoder, &made, E));
    MUST(byol_head_predict(made, features, COUNT, dimension, 0, top, again, COUNT * CLASSES, E));
    CHECK(memcmp(again, probabilities, COUNT * CLASSES * sizeof *again) == 0);
    MUST(byol_head_get_label(made, 2, text, sizeof text, NULL, E));
    CHECK(strcmp(text, "2") == 0);
    EXPECT(BYOL_OK, byol_head_check(made, encoder, E));
    MUST(byol_head_clone(made, &copy, E));
    byol_head_close(made, NULL);
    CHECK(apart(copy, head) <= 0);
    weights[0] = INFINITY;
    EXPECT(BYOL_E_NON_FINITE, byol_head_create(weights, CLASSES, dimension, 0, bias, NULL, none, &made, E));
    byol_head_close(copy, NULL);

    /* Calibrated: the same classes, and less log-loss on what it was calibrated with. */
    MUST(byol_head_evaluate(head, features, COUNT, dimension, 0, set.labels, &before, NULL, 0, NULL, 0, E));
    MUST(byol_head_calibrate(head, features, COUNT, dimension, 0, set.labels, &cool, &temperature, E));
    MUST(byol_head_evaluate(cool, features, COUNT, dimension, 0, set.labels, &after, NULL, 0, NULL, 0, E));
    MUST(byol_head_get_info(cool, &info, E));
    CHECK(temperature > 0 && fabs(info.temperature - temperature) < 1e-12 && after.log_loss < before.log_loss);
    CHECK(after.top1 >= before.top1 && after.top1 <= before.top1);
    MUST(byol_head_get_info(head, &info, E));
    CHECK(info.temperature >= 1 && info.temperature <= 1);
    EXPECT(BYOL_E_DATA, byol_head_calibrate(head, features, 0, dimension, 0, set.labels, &made, NULL, E));
    byol_head_close(cool, NULL);

    /* As ONNX: alone, and behind the encoder, where ONNX Runtime gives the same probabilities. */
    snprintf(path, sizeof path, "%s/head.onnx", folder);
    MUST(byol_head_export_onnx(head, NULL, path, E));
    file = file_read(path, &length);
    MUST(byol_head_export_onnx_bytes(head, NULL, NULL, 0, &needed, E));
    bytes = malloc(needed);
    MUST(byol_head_export_onnx_bytes(head, NULL, bytes, needed, NULL, E));
    CHECK(needed == length && memcmp(file, bytes, length) == 0);
    source.data = bytes, source.data_len = needed;
    MUST(byol_model_inspect(&source, &inspected, E));
    CHECK(strcmp(inspected.input_name, "features") == 0 && strcmp(inspected.output_name, "logits") == 0);
    EXPECT(BYOL_E_WRONG_ENCODER, byol_head_export_onnx(head, &source, path, E));
    free(file), free(bytes);
    source = (byol_source)BYOL_SOURCE_INIT;
    source.path = model;
    snprintf(path, sizeof path, "%s/classifier.onnx", folder);
    MUST(byol_head_export_onnx(head, &source, path, E));
    source.path = path, options.output = "probabilities";
    MUST(byol_encoder_open(any, &source, &options, &classifier, E));
    MUST(byol_extract(classifier, set.images, COUNT, NULL, again, 0, COUNT * CLASSES, NULL, never, E));
    for (size_t i = 0; i < COUNT * CLASSES; i++)
        CHECK(fabsf(again[i] - probabilities[i]) < 1e-5f);
    byol_encoder_close(classifier, NULL);
}

static void trainers(byol_encoder encoder, byol_encoder other, const char *model, const char *folder)
{
    static const char *const names[CLASSES] = {"top", "upper", "lower", "bottom"};
    static const float weights[CLASSES] = {4, 1, 1, 0.25f};
    byol_trainer trainer = {0}, second = {0};
    byol_trainer_info info = BYOL_TRAINER_INFO_INIT;
    byol_fit_options fit = BYOL_FIT_OPTIONS_INIT;
    byol_fit_report report = BYOL_FIT_REPORT_INIT, shorter = BYOL_FIT_REPORT_INIT;
    byol_search_options search = BYOL_SEARCH_OPTIONS_INIT;
    byol_head whole = {0}, direct = {0}, head = {0}, refitted = {0};
    byol_features container = {0};
    double tried[4 * BYOL_SEARCH_PENALTIES], penalties[2] = {1e-4, 1e-2};
    uint32_t index = 9;
    uint64_t examples = 0, first = 0;
    size_t count = 0;
    int calls = 0;
    char text[64];

    fit.tolerance = 1e-9;
    MUST(byol_trainer_create(encoder, 0, &trainer, E));
    for (uint32_t c = 0; c < CLASSES; c++) {
        MUST(byol_trainer_add_class(trainer, names[c], &index, E));
        CHECK(index == c);
    }
    MUST(byol_trainer_add_class(trainer, "upper", &index, E));
    CHECK(index == 1);
    EXPECT(BYOL_E_DATA, byol_trainer_fit(trainer, &fit, NULL, NULL, never, &head, &report, E));

    /* Pictures become examples; a bad one is left out and has no number. */
    set.images[2].data = NULL;
    EXPECT(BYOL_E_NULL_POINTER, byol_trainer_add_images(trainer, encoder, set.images, COUNT, set.labels, ids, NULL, never, E));
    MUST(byol_trainer_add_images(trainer, encoder, set.images, COUNT, set.labels, ids, status, never, E));
    set.images[2].data = set.pixels[2];
    CHECK(status[2] == BYOL_E_NULL_POINTER && ids[2] == 0 && ids[0] == 1 && ids[1] == 2 && ids[3] == 3);
    EXPECT(BYOL_E_WRONG_ENCODER, byol_trainer_add_images(trainer, other, set.images, 1, set.labels, NULL, NULL, never, E));
    MUST(byol_trainer_add(trainer, features + 2 * dimension, 1, dimension, 0, set.labels + 2, more, E));
    CHECK(more[0] == COUNT);
    MUST(byol_trainer_get_info(trainer, &info, E));
    CHECK(info.examples == COUNT && info.classes == CLASSES && info.dimension == dimension && info.is_fitted == 0);
    MUST(byol_trainer_get_class(trainer, 1, text, sizeof text, NULL, &examples, E));
    CHECK(strcmp(text, "upper") == 0 && examples == COUNT / CLASSES);

    /* The optimum is that of the same rows in one call. */
    MUST(byol_trainer_fit(trainer, &fit, count_calls, &calls, never, &whole, &report, E));
    CHECK(report.converged == 1 && calls > 0);
    MUST(byol_head_fit(features, COUNT, dimension, 0, set.labels, names, CLASSES, encoder, &fit, NULL, NULL, never, &direct, NULL, E));
    CHECK(apart(whole, direct) < 1e-3);
    heads(whole, encoder, model, folder);

    /* Examples come and go; a refit finds where they are now, in no time. */
    MUST(byol_trainer_add(trainer, features, 8, dimension, 0, set.labels + 1, more, E));
    MUST(byol_trainer_relabel(trainer, ids[5], (set.labels[5] + 1) % CLASSES, E));
    MUST(byol_trainer_refit(trainer, &fit, NULL, NULL, never, &head, NULL, E));
    CHECK(apart(whole, head) > 1e-3);
    byol_head_close(head, NULL);
    MUST(byol_trainer_remove(trainer, more, 8, E));
    EXPECT(BYOL_E_NOT_FOUND, byol_trainer_remove(trainer, more, 1, E));
    MUST(byol_trainer_relabel(trainer, ids[5], set.labels[5], E));
    MUST(byol_trainer_refit(trainer, &fit, NULL, NULL, never, &head, NULL, E));
    CHECK(apart(whole, head) < 1e-3);
    MUST(byol_trainer_refit(trainer, &fit, NULL, NULL, never, &refitted, &shorter, E));
    CHECK(shorter.iterations <= report.iterations && shorter.passes <= report.passes);
    MUST(byol_trainer_get_info(trainer, &info, E));
    CHECK(info.examples == COUNT && info.is_fitted == 1);
    byol_head_close(head, NULL), byol_head_close(refitted, NULL);
    MUST(byol_head_refit(whole, features, COUNT, dimension, 0, set.labels, names, CLASSES, encoder, &fit, NULL, NULL, never,
                         &refitted, &shorter, E));
    CHECK(apart(whole, refitted) < 1e-3 && shorter.passes <= report.passes);
    byol_head_close(refitted, NULL);

    /* A class goes, and comes back with its rows as features. */
    MUST(byol_trainer_get_features(trainer, &container, E));
    MUST(byol_trainer_remove_class(trainer, 0, E));
    EXPECT(BYOL_E_NOT_FOUND, byol_trainer_remove_class(trainer, CLASSES - 1, E));
    MUST(byol_trainer_get_class(trainer, 0, text, sizeof text, NULL, NULL, E));
    CHECK(strcmp(text, "upper") == 0);
    MUST(byol_trainer_create(encoder, dimension, &second, E));
    MUST(byol_trainer_add_features(second, container, &first, E));
    CHECK(first == 1);
    MUST(byol_trainer_fit(second, &fit, NULL, NULL, never, &head, NULL, E));
    CHECK(apart(whole, head) < 1e-3);
    byol_head_close(head, NULL);

    /* A search: on examples held out, in folds, over penalties of one's own. */
    calls = 0;
    MUST(byol_trainer_search(second, NULL, NULL, count_penalties, &calls, never, &head, &report, tried, 4 * BYOL_SEARCH_PENALTIES,
                             &count, E));
    CHECK(count >= 3 && count <= BYOL_SEARCH_PENALTIES && calls == (int)count && report.converged == 1);
    for (size_t i = 0; i < count; i++)
        CHECK(i == 0 || tried[4 * i] < tried[4 * i - 4]);
    byol_head_close(head, NULL);
    search.folds = 5, search.penalties = penalties, search.penalties_len = 2;
    MUST(byol_trainer_search(second, &fit, &search, NULL, NULL, never, &head, &report, tried, 8, &count, E));
    CHECK(count == 2 && fabs(tried[0] - 1e-2) < 1e-12 && fabs(tried[4] - 1e-4) < 1e-12 && tried[1] > 0.9);
    byol_head_close(head, NULL);
    EXPECT(BYOL_E_BUFFER_TOO_SMALL, byol_trainer_search(second, &fit, &search, NULL, NULL, never, &head, &report, tried, 7, &count, E));
    EXPECT(BYOL_E_CANCELLED, byol_trainer_search(second, &fit, &search, stop_search, NULL, never, &head, NULL, NULL, 0, NULL, E));
    EXPECT(BYOL_E_CANCELLED, byol_trainer_fit(second, &fit, stop, NULL, never, &head, NULL, E));
    search.folds = 1;
    EXPECT(BYOL_E_INVALID_ARG, byol_trainer_search(second, &fit, &search, NULL, NULL, never, &head, NULL, NULL, 0, NULL, E));
    search.folds = COUNT;
    EXPECT(BYOL_E_INVALID_ARG, byol_trainer_search(second, &fit, &search, NULL, NULL, never, &head, NULL, NULL, 0, NULL, E));

    /* Weights of classes: as many as there are classes, where their number is told; without it they are trusted. */
    fit.class_weights = weights, fit.class_weights_len = CLASSES;
    MUST(byol_trainer_fit(second, &fit, NULL, NULL, never, &head, NULL, E));
    CHECK(apart(whole, head) > 1e-3);
    fit.class_weights_len = 0;
    MUST(byol_trainer_fit(second, &fit, NULL, NULL, never, &refitted, NULL, E));
    CHECK(apart(head, refitted) == 0);
    byol_head_close(head, NULL), byol_head_close(refitted, NULL);
    for (fit.class_weights_len = 1; fit.class_weights_len <= CLASSES + 1; fit.class_weights_len++) {
        if (fit.class_weights_len == CLASSES)
            continue;
        EXPECT(BYOL_E_SHAPE, byol_trainer_fit(second, &fit, NULL, NULL, never, &head, NULL, E));
        EXPECT(BYOL_E_SHAPE, byol_trainer_refit(second, &fit, NULL, NULL, never, &head, NULL, E));
        EXPECT(BYOL_E_SHAPE, byol_trainer_search(second, &fit, NULL, NULL, NULL, never, &head, NULL, NULL, 0, NULL, E));
        EXPECT(BYOL_E_SHAPE, byol_head_fit(features, COUNT, dimension, 0, set.labels, names, CLASSES, encoder, &fit, NULL, NULL,
                                           never, &head, NULL, E));
    }
    /* A program of before that field has other memory there. */
    fit.struct_size = (uint32_t)offsetof(byol_fit_options, class_weights_len);
    MUST(byol_trainer_fit(second, &fit, NULL, NULL, never, &head, NULL, E));
    byol_head_close(head, NULL);
    fit.struct_size = (uint32_t)sizeof fit;
    fit.class_weights = NULL;
    EXPECT(BYOL_E_NULL_POINTER, byol_trainer_fit(second, &fit, NULL, NULL, never, &head, NULL, E));
    fit.class_weights_len = 0;

    fit.sample_weights = features;
    EXPECT(BYOL_E_INVALID_ARG, byol_trainer_fit(second, &fit, NULL, NULL, never, &head, NULL, E));

    /* Without a fit at all. */
    MUST(byol_trainer_imprint(second, 20, &head, E));
    MUST(byol_head_predict(head, features, COUNT, dimension, 0, predicted, NULL, 0, E));
    for (size_t i = 0; i < COUNT; i++)
        CHECK(predicted[i] == set.labels[i]);
    byol_head_close(head, NULL);
    EXPECT(BYOL_E_INVALID_ARG, byol_trainer_imprint(second, 0, &head, E));
    byol_features_close(container, NULL);
    byol_trainer_close(second, NULL);
    byol_trainer_close(trainer, NULL);
    byol_head_close(whole, NULL), byol_head_close(direct, NULL);
}

int main(int argc, char **argv)
{
    byol_encoder encoder, other;
    byol_runtime runtime = {0};
    byol_runtime_options options = BYOL_RUNTIME_OPTIONS_INIT;
    byol_runtime_stats before = BYOL_RUNTIME_STATS_INIT, stats = BYOL_RUNTIME_STATS_INIT;
    byol_trainer trainer = {0};
    if (argc != 4)
        return 2;
    pictures_make(&set);
    MUST(byol_runtime_get_stats(&before, E));
    CHECK(before.calls == 0 && before.threads == 0 && before.max_memory == 0);
    encoder = encoder_open(argv[1]);
    other = encoder_open(argv[2]);
    dimension = encoder_dimension(encoder);
    MUST(byol_extract(encoder, set.images, COUNT, NULL, features, 0, COUNT * 64, NULL, never, E));
    sources(argv[1], argv[2], argv[3]);
    containers(encoder, argv[3]);
    packing(encoder);
    trainers(encoder, other, argv[1], argv[3]);

    /* What was done, and what is held: a trainer's rows show, and go again. */
    MUST(byol_runtime_get_stats(&before, E));
    CHECK(before.threads > 0 && before.calls > 100 && before.failures > 20 && before.failures < before.calls);
    CHECK(before.pictures > 4 * COUNT && before.held_bytes > 0 && before.held_peak >= before.held_bytes);
    CHECK(before.resident_peak >= before.resident_bytes && before.resident_bytes > before.held_bytes);
    {
        enum { ROWS = 4096 };
        float *rows = calloc((size_t)ROWS * dimension, sizeof *rows);
        uint32_t *zeros = calloc(ROWS, sizeof *zeros), index;
        MUST(byol_trainer_create((byol_encoder){0}, dimension, &trainer, E));
        MUST(byol_trainer_add_class(trainer, "any", &index, E));
        MUST(byol_trainer_add(trainer, rows, ROWS, dimension, 0, zeros, NULL, E));
        MUST(byol_runtime_get_stats(&stats, E));
        CHECK(stats.held_bytes >= before.held_bytes + (uint64_t)ROWS * dimension * 4);
        options.max_memory = stats.held_bytes + 1000;
        MUST(byol_runtime_create(&options, &runtime, E));
        EXPECT(BYOL_E_LIMIT, byol_trainer_add(trainer, rows, ROWS, dimension, 0, zeros, NULL, E));
        byol_runtime_close(runtime, NULL);
        options.max_memory++;
        EXPECT(BYOL_E_BUSY_CONFIG, byol_runtime_create(&options, &runtime, E));
        byol_trainer_close(trainer, NULL);
        MUST(byol_runtime_get_stats(&stats, E));
        CHECK(stats.held_bytes < before.held_bytes + 100000 && stats.max_memory == options.max_memory - 1);
        free(rows), free(zeros);
    }
    MUST(byol_runtime_trim(E));
    byol_encoder_close(encoder, NULL);
    byol_encoder_close(other, NULL);
    return check_end("teach");
}
