/*
 * Misuse of every function: each pointer NULL, each handle 0, closed, of another kind or made up, each struct too small,
 * too large and zero, too large and not zero. Nothing may crash, print or write an output.
 */
#include "check.h"

static byol_runtime runtime, runtime_bad[5];
static byol_encoder encoder, encoder_bad[5];
static byol_head head, head_bad[5];
static byol_cancel token, token_bad[5];

/* As `call`, once with each bad handle in `variable`. */
#define BAD_HANDLES(variable, call)                                                         \
    do {                                                                                    \
        for (int bad = 0; bad < 5; bad++) {                                                 \
            variable = variable##_bad[bad];                                                 \
            EXPECT(BYOL_E_HANDLE, call);                                                    \
        }                                                                                   \
        variable = variable##_good;                                                         \
    } while (0)

/* As `call`, with the struct at `s` too small, of no size, enormous, and with an unknown field that is set. */
#define BAD_STRUCT(type, s, call)                                                           \
    do {                                                                                    \
        const type sound = *(s);                                                            \
        uint32_t sizes[] = {0, 1, (uint32_t)sizeof(type) - 1, 70000, UINT32_MAX};           \
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {                         \
            (s)->struct_size = sizes[i];                                                    \
            EXPECT(BYOL_E_ABI, call);                                                       \
        }                                                                                   \
        *(s) = sound;                                                                       \
    } while (0)

int main(int argc, char **argv)
{
    static struct pictures set;
    const byol_cancel never = {0};
    const byol_runtime any = {0};
    byol_runtime runtime_good, runtime_out = {42};
    byol_encoder encoder_good, encoder_out = {42}, none = {0};
    byol_head head_good, head_out = {42};
    byol_cancel token_good, token_out = {42};
    byol_source source = BYOL_SOURCE_INIT;
    byol_model_info model = BYOL_MODEL_INFO_INIT;
    byol_encoder_options options = BYOL_ENCODER_OPTIONS_INIT;
    byol_runtime_options runtime_options = BYOL_RUNTIME_OPTIONS_INIT;
    byol_contract contract = BYOL_CONTRACT_INIT;
    byol_encoder_info info = BYOL_ENCODER_INFO_INIT;
    byol_extract_options extract = BYOL_EXTRACT_OPTIONS_INIT;
    byol_fit_options fit = BYOL_FIT_OPTIONS_INIT;
    byol_fit_report report = BYOL_FIT_REPORT_INIT;
    byol_head_info about = BYOL_HEAD_INFO_INIT;
    byol_metrics metrics = BYOL_METRICS_INIT;
    const unsigned char *data[1];
    const size_t lengths[1] = {4};
    const char *paths[1] = {"x"};
    const char *const *no_paths = NULL;
    char text[64] = "untouched";
    size_t needed = 0, length;
    uint32_t dimension, labels[COUNT];
    float *features, out[COUNT * CLASSES];
    double per_class[3 * CLASSES];
    uint64_t confusion[CLASSES * CLASSES];
    unsigned char bytes[16] = {0};
    float *odd;

    if (argc != 4)
        return 2;
    pictures_make(&set);
    data[0] = bytes;
    source.path = argv[1];
    MUST(byol_runtime_create(NULL, &runtime, E));
    encoder = encoder_open(argv[1]);
    dimension = encoder_dimension(encoder);
    length = (size_t)COUNT * dimension;
    features = calloc(length + 1, sizeof *features);
    if (!features)
        return 1;
    MUST(byol_extract(encoder, set.images, COUNT, NULL, features, 0, length, NULL, never, E));
    MUST(byol_head_fit(features, COUNT, dimension, 0, set.labels, NULL, CLASSES, none, NULL, NULL, NULL, never, &head, NULL, E));
    MUST(byol_cancel_create(0, &token, E));

    /* Bad handles: none, made up, one bit off, of another kind, closed. */
    MUST(byol_runtime_create(NULL, &runtime_bad[4], E));
    encoder_bad[4] = encoder_open(argv[2]);
    MUST(byol_head_fit(features, COUNT, dimension, 0, set.labels, NULL, CLASSES, none, NULL, NULL, NULL, never, &head_bad[4],
                       NULL, E));
    MUST(byol_cancel_create(0, &token_bad[4], E));
    EXPECT(BYOL_OK, byol_runtime_close(runtime_bad[4], E));
    EXPECT(BYOL_OK, byol_encoder_close(encoder_bad[4], E));
    EXPECT(BYOL_OK, byol_head_close(head_bad[4], E));
    EXPECT(BYOL_OK, byol_cancel_close(token_bad[4], E));
    runtime_good = runtime, encoder_good = encoder, head_good = head, token_good = token;
    runtime_bad[1].id = encoder_bad[1].id = head_bad[1].id = token_bad[1].id = UINT64_MAX;
    runtime_bad[2].id = runtime.id ^ 1u << 31, encoder_bad[2].id = encoder.id ^ 1u << 20;
    head_bad[2].id = head.id ^ (uint64_t)1 << 40, token_bad[2].id = token.id ^ (uint64_t)1 << 63;
    runtime_bad[3].id = encoder.id, encoder_bad[3].id = head.id, head_bad[3].id = token.id, token_bad[3].id = runtime.id;
    /* Handle 0 means the default here, and nothing to close or to obey elsewhere. */
    runtime_bad[0] = runtime_bad[1], token_bad[0] = token_bad[1];
    {
        uint64_t random = 88172645463325252u;
        for (int i = 0; i < 1 << 20; i++) {
            byol_head guess;
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            guess.id = random;
            if (guess.id != head.id && byol_head_check(guess, encoder, NULL) != BYOL_E_HANDLE)
                CHECK(!"a made-up handle was taken");
        }
    }

    /* Closing: what is closed or made up is refused, nothing is nothing. */
    BAD_HANDLES(runtime, byol_runtime_close(runtime, E));
    for (int i = 1; i < 5; i++) {
        EXPECT(BYOL_E_HANDLE, byol_encoder_close(encoder_bad[i], E));
        EXPECT(BYOL_E_HANDLE, byol_head_close(head_bad[i], E));
    }
    BAD_HANDLES(token, byol_cancel_close(token, E));
    EXPECT(BYOL_OK, byol_runtime_close(any, E));
    EXPECT(BYOL_OK, byol_encoder_close(encoder_bad[0], E));
    EXPECT(BYOL_OK, byol_head_close(head_bad[0], E));
    EXPECT(BYOL_OK, byol_cancel_close(never, E));

    /* Library. */
    EXPECT(BYOL_E_NULL_POINTER, byol_build_info(NULL, 0, NULL, E));
    EXPECT(BYOL_E_NULL_POINTER, byol_build_info(NULL, 8, &needed, E));
    EXPECT(BYOL_E_BUFFER_TOO_SMALL, byol_build_info(text, 8, NULL, E));
    CHECK(strcmp(text, "untouched") == 0);
    EXPECT(BYOL_E_INVALID_ARG, byol_set_log_sink(NULL, NULL, NULL, 3, E));
    EXPECT(BYOL_E_ABI, byol_abi_check(UINT32_MAX, UINT32_MAX, E));
    CHECK(byol_live_handles(99) == 0 && byol_live_handles(UINT32_MAX) == 0);
    CHECK(byol_status_is_retryable(BYOL_E_IO) == 1 && byol_status_is_retryable(-5) == 0);
    CHECK(strcmp(byol_status_name(12345), "BYOL_E_?") == 0);

    /* Cancel. */
    EXPECT(BYOL_E_NULL_POINTER, byol_cancel_create(0, NULL, E));
    BAD_HANDLES(token, byol_cancel_trigger(token, E));
    BAD_HANDLES(token, byol_cancel_reset(token, E));
    EXPECT(BYOL_E_HANDLE, byol_cancel_trigger(never, E));
    EXPECT(BYOL_E_HANDLE, byol_cancel_reset(never, E));

    /* Runtime. */
    EXPECT(BYOL_E_NULL_POINTER, byol_runtime_create(NULL, NULL, E));
    BAD_STRUCT(byol_runtime_options, &runtime_options, byol_runtime_create(&runtime_options, &runtime_out, E));
    runtime_options.library = "no/such/libonnxruntime.so";
    EXPECT(BYOL_E_BUSY_CONFIG, byol_runtime_create(&runtime_options, &runtime_out, E));
    runtime_options.library = "\xff";
    EXPECT(BYOL_E_INVALID_ARG, byol_runtime_create(&runtime_options, &runtime_out, E));
    runtime_options.library = NULL;
    runtime_options.threads = 4000000000u;
    EXPECT(BYOL_E_BUSY_CONFIG, byol_runtime_create(&runtime_options, &runtime_out, E));

    /* Source, model, encoder. */
    EXPECT(BYOL_E_NULL_POINTER, byol_model_inspect(NULL, &model, E));
    EXPECT(BYOL_E_NULL_POINTER, byol_model_inspect(&source, NULL, E));
    BAD_STRUCT(byol_source, &source, byol_model_inspect(&source, &model, E));
    BAD_STRUCT(byol_model_info, &model, byol_model_inspect(&source, &model, E));
    EXPECT(BYOL_E_NULL_POINTER, byol_encoder_open(any, NULL, NULL, &encoder_out, E));
    EXPECT(BYOL_E_NULL_POINTER, byol_encoder_open(any, &source, NULL, NULL, E));
    BAD_HANDLES(runtime, byol_encoder_open(runtime, &source, NULL, &encoder_out, E));
    BAD_STRUCT(byol_source, &source, byol_encoder_open(any, &source, NULL, &encoder_out, E));
    BAD_STRUCT(byol_encoder_options, &options, byol_encoder_open(any, &source, &options, &encoder_out, E));
    options.contract = &contract;
    EXPECT(BYOL_E_INVALID_ARG, byol_encoder_open(any, &source, &options, &encoder_out, E));
    BAD_STRUCT(byol_contract, &contract, byol_encoder_open(any, &source, &options, &encoder_out, E));
    contract.channels = 1, contract.height = SIDE, contract.width = SIDE, contract.deviation[0] = 1;
    contract.filter = BYOL_FILTER_BICUBIC;
    for (uint32_t resize = 0; resize < 4; resize++) {
        contract.resize = resize;
        if (resize != BYOL_RESIZE_STRETCH)
            EXPECT(BYOL_E_INVALID_ARG, byol_encoder_open(any, &source, &options, &encoder_out, E));
    }
    contract.resize = BYOL_RESIZE_STRETCH, contract.filter = INT32_MAX;
    EXPECT(BYOL_E_INVALID_ARG, byol_encoder_open(any, &source, &options, &encoder_out, E));
    contract.filter = BYOL_FILTER_BICUBIC, contract.channels = UINT32_MAX;
    EXPECT(BYOL_E_INVALID_ARG, byol_encoder_open(any, &source, &options, &encoder_out, E));
    options.contract = NULL, options.sessions = UINT32_MAX;
    EXPECT(BYOL_E_INVALID_ARG, byol_encoder_open(any, &source, &options, &encoder_out, E));
    options.sessions = 0, options.max_model_bytes = 10;
    EXPECT(BYOL_E_LIMIT, byol_encoder_open(any, &source, &options, &encoder_out, E));
    options.max_model_bytes = 0, options.output = "no such output";
    EXPECT(BYOL_E_MODEL_UNSUPPORTED, byol_encoder_open(any, &source, &options, &encoder_out, E));
    source.flags = 2;
    EXPECT(BYOL_E_INVALID_ARG, byol_encoder_open(any, &source, NULL, &encoder_out, E));
    source.flags = 0, source.sha256 = "abc";
    EXPECT(BYOL_E_INVALID_ARG, byol_encoder_open(any, &source, NULL, &encoder_out, E));
    source.sha256 = "0000000000000000000000000000000000000000000000000000000000000000";
    EXPECT(BYOL_E_CHECKSUM, byol_encoder_open(any, &source, NULL, &encoder_out, E));
    EXPECT(BYOL_E_CHECKSUM, byol_model_inspect(&source, &model, E));
    source.sha256 = NULL, source.data = bytes;
    EXPECT(BYOL_E_INVALID_ARG, byol_encoder_open(any, &source, NULL, &encoder_out, E));
    source.path = NULL, source.data_len = sizeof bytes;
    EXPECT(BYOL_E_MODEL_INVALID, byol_encoder_open(any, &source, NULL, &encoder_out, E));
    EXPECT(BYOL_E_MODEL_INVALID, byol_model_inspect(&source, &model, E));
    source.data_len = SIZE_MAX;
    EXPECT(BYOL_E_INVALID_ARG, byol_model_inspect(&source, &model, E));
    source.data = NULL, source.data_len = 0;
    EXPECT(BYOL_E_NULL_POINTER, byol_encoder_open(any, &source, NULL, &encoder_out, E));
    source.path = "";
    EXPECT(BYOL_E_INVALID_ARG, byol_model_inspect(&source, &model, E));
    source.path = "no/such/model.onnx";
    EXPECT(BYOL_E_NOT_FOUND, byol_encoder_open(any, &source, NULL, &encoder_out, E));
    EXPECT(BYOL_E_NOT_FOUND, byol_model_inspect(&source, &model, E));
    source.path = ".";
    EXPECT(BYOL_E_IO, byol_model_inspect(&source, &model, E));
    EXPECT(BYOL_E_NULL_POINTER, byol_encoder_get_info(encoder, NULL, E));
    BAD_HANDLES(encoder, byol_encoder_get_info(encoder, &info, E));
    BAD_STRUCT(byol_encoder_info, &info, byol_encoder_get_info(encoder, &info, E));
    EXPECT(BYOL_E_NULL_POINTER, byol_encoder_get_metadata(encoder, NULL, text, sizeof text, &needed, E));
    EXPECT(BYOL_E_NULL_POINTER, byol_encoder_get_metadata(encoder, "byol.input.channels", NULL, 9, &needed, E));
    EXPECT(BYOL_E_INVALID_ARG, byol_encoder_get_metadata(encoder, "\xc3(", text, sizeof text, &needed, E));
    BAD_HANDLES(encoder, byol_encoder_get_metadata(encoder, "x", text, sizeof text, &needed, E));
    EXPECT(BYOL_E_NULL_POINTER, byol_encoder_get_metadata_key(encoder, 0, NULL, 0, NULL, E));
    EXPECT(BYOL_E_NOT_FOUND, byol_encoder_get_metadata_key(encoder, SIZE_MAX, text, sizeof text, &needed, E));
    BAD_HANDLES(encoder, byol_encoder_get_metadata_key(encoder, 0, text, sizeof text, &needed, E));
    CHECK(encoder_out.id == 42 && runtime_out.id == 42 && strcmp(text, "untouched") == 0);

    /* Extract. */
    memset(features, 0, length * sizeof *features);
    odd = (float *)(void *)((char *)features + 1);
    EXPECT(BYOL_E_NULL_POINTER, byol_extract(encoder, NULL, 1, NULL, features, 0, length, NULL, never, E));
    EXPECT(BYOL_E_NULL_POINTER, byol_extract(encoder, set.images, COUNT, NULL, NULL, 0, length, NULL, never, E));
    EXPECT(BYOL_E_BUFFER_TOO_SMALL, byol_extract(encoder, set.images, COUNT, NULL, features, 0, length - 1, NULL, never, E));
    EXPECT(BYOL_E_BUFFER_TOO_SMALL, byol_extract(encoder, set.images, 1, NULL, features, 0, 0, NULL, never, E));
    EXPECT(BYOL_E_SHAPE, byol_extract(encoder, set.images, COUNT, NULL, features, dimension - 1, length, NULL, never, E));
    EXPECT(BYOL_E_INVALID_ARG, byol_extract(encoder, set.images, COUNT, NULL, features, SIZE_MAX, length, NULL, never, E));
    EXPECT(BYOL_E_INVALID_ARG, byol_extract(encoder, set.images, SIZE_MAX, NULL, features, 0, length, NULL, never, E));
    EXPECT(BYOL_E_INVALID_ARG, byol_extract(encoder, set.images, COUNT, NULL, odd, 0, length, NULL, never, E));
    BAD_HANDLES(encoder, byol_extract(encoder, set.images, COUNT, NULL, features, 0, length, NULL, never, E));
    BAD_HANDLES(token, byol_extract(encoder, set.images, COUNT, NULL, features, 0, length, NULL, token, E));
    BAD_STRUCT(byol_image, &set.images[0], byol_extract(encoder, set.images, COUNT, NULL, features, 0, length, NULL, never, E));
    BAD_STRUCT(byol_image, &set.images[7], byol_extract(encoder, set.images, COUNT, NULL, features, 0, length, NULL, never, E));
    BAD_STRUCT(byol_extract_options, &extract,
               byol_extract(encoder, set.images, COUNT, &extract, features, 0, length, NULL, never, E));
    extract.flags = 1;
    EXPECT(BYOL_E_INVALID_ARG, byol_extract(encoder, set.images, COUNT, &extract, features, 0, length, NULL, never, E));
    EXPECT(BYOL_E_INVALID_ARG, byol_extract_encoded(encoder, data, lengths, 1, &extract, features, 0, length, NULL, never, E));
    EXPECT(BYOL_E_INVALID_ARG, byol_extract_files(encoder, paths, 1, &extract, features, 0, length, NULL, never, E));
    extract.flags = 0;
    {
        byol_image image = set.images[0];
#define BAD_IMAGE(code, field, value)                                                                     \
    do {                                                                                                  \
        image.field = (value);                                                                            \
        EXPECT(code, byol_extract(encoder, &image, 1, NULL, features, 0, length, NULL, never, E));        \
        image = set.images[0];                                                                            \
    } while (0)
        BAD_IMAGE(BYOL_E_INVALID_ARG, format, 0);
        BAD_IMAGE(BYOL_E_INVALID_ARG, format, BYOL_FORMAT_RGBX8 + 1);
        BAD_IMAGE(BYOL_E_INVALID_ARG, format, UINT32_MAX);
        BAD_IMAGE(BYOL_E_INVALID_ARG, format, BYOL_FORMAT_RGB8);
        BAD_IMAGE(BYOL_E_INVALID_ARG, width, 0);
        BAD_IMAGE(BYOL_E_INVALID_ARG, width, UINT32_MAX);
        BAD_IMAGE(BYOL_E_INVALID_ARG, height, 0);
        BAD_IMAGE(BYOL_E_INVALID_ARG, height, UINT32_MAX);
        BAD_IMAGE(BYOL_E_INVALID_ARG, height, SIDE + 1);
        BAD_IMAGE(BYOL_E_INVALID_ARG, stride, 1);
        BAD_IMAGE(BYOL_E_INVALID_ARG, stride, SIZE_MAX);
        BAD_IMAGE(BYOL_E_INVALID_ARG, data_len, 0);
        BAD_IMAGE(BYOL_E_INVALID_ARG, data_len, SIDE * SIDE - 1);
        BAD_IMAGE(BYOL_E_INVALID_ARG, data_len, SIZE_MAX);
        BAD_IMAGE(BYOL_E_NULL_POINTER, data, NULL);
    }
    EXPECT(BYOL_E_NULL_POINTER, byol_extract_encoded(encoder, NULL, lengths, 1, NULL, features, 0, length, NULL, never, E));
    EXPECT(BYOL_E_NULL_POINTER, byol_extract_encoded(encoder, data, NULL, 1, NULL, features, 0, length, NULL, never, E));
    EXPECT(BYOL_E_NULL_POINTER, byol_extract_encoded(encoder, data, lengths, 1, NULL, NULL, 0, length, NULL, never, E));
    EXPECT(BYOL_E_IMAGE_DECODE, byol_extract_encoded(encoder, data, lengths, 1, NULL, features, 0, length, NULL, never, E));
    BAD_HANDLES(encoder, byol_extract_encoded(encoder, data, lengths, 1, NULL, features, 0, length, NULL, never, E));
    BAD_HANDLES(token, byol_extract_encoded(encoder, data, lengths, 1, NULL, features, 0, length, NULL, token, E));
    BAD_STRUCT(byol_extract_options, &extract,
               byol_extract_encoded(encoder, data, lengths, 1, &extract, features, 0, length, NULL, never, E));
    data[0] = NULL;
    EXPECT(BYOL_E_NULL_POINTER, byol_extract_encoded(encoder, data, lengths, 1, NULL, features, 0, length, NULL, never, E));
    EXPECT(BYOL_E_NULL_POINTER, byol_extract_files(encoder, no_paths, 1, NULL, features, 0, length, NULL, never, E));
    EXPECT(BYOL_E_NULL_POINTER, byol_extract_files(encoder, paths, 1, NULL, NULL, 0, length, NULL, never, E));
    EXPECT(BYOL_E_NOT_FOUND, byol_extract_files(encoder, paths, 1, NULL, features, 0, length, NULL, never, E));
    BAD_HANDLES(encoder, byol_extract_files(encoder, paths, 1, NULL, features, 0, length, NULL, never, E));
    BAD_HANDLES(token, byol_extract_files(encoder, paths, 1, NULL, features, 0, length, NULL, token, E));
    BAD_STRUCT(byol_extract_options, &extract,
               byol_extract_files(encoder, paths, 1, &extract, features, 0, length, NULL, never, E));
    paths[0] = NULL;
    EXPECT(BYOL_E_NULL_POINTER, byol_extract_files(encoder, paths, 1, NULL, features, 0, length, NULL, never, E));
#define TENSOR(values, len, element, count, to) \
    byol_extract_tensor(encoder, values, len, element, count, NULL, to, 0, length, never, E)
    EXPECT(BYOL_E_NULL_POINTER, TENSOR(NULL, sizeof set.pixels, BYOL_TENSOR_U8, COUNT, features));
    EXPECT(BYOL_E_NULL_POINTER, TENSOR(set.pixels, sizeof set.pixels, BYOL_TENSOR_U8, COUNT, NULL));
    EXPECT(BYOL_E_INVALID_ARG, TENSOR(set.pixels, sizeof set.pixels, BYOL_TENSOR_OTHER, COUNT, features));
    EXPECT(BYOL_E_INVALID_ARG, TENSOR(set.pixels, sizeof set.pixels, UINT32_MAX, COUNT, features));
    EXPECT(BYOL_E_SHAPE, TENSOR(set.pixels, sizeof set.pixels - 1, BYOL_TENSOR_U8, COUNT, features));
    EXPECT(BYOL_E_INVALID_ARG, TENSOR(set.pixels, SIZE_MAX, BYOL_TENSOR_U8, COUNT, features));
    EXPECT(BYOL_E_INVALID_ARG, TENSOR(features, 5, BYOL_TENSOR_F32, 1, features));
    BAD_HANDLES(encoder, TENSOR(set.pixels, sizeof set.pixels, BYOL_TENSOR_U8, COUNT, features));
    BAD_HANDLES(token, byol_extract_tensor(encoder, set.pixels, sizeof set.pixels, BYOL_TENSOR_U8, COUNT, NULL, features, 0,
                                           length, token, E));
    BAD_STRUCT(byol_extract_options, &extract,
               byol_extract_tensor(encoder, set.pixels, sizeof set.pixels, BYOL_TENSOR_U8, COUNT, &extract, features, 0,
                                   length, never, E));
    for (size_t i = 0; i < length; i++)
        CHECK(features[i] == 0);
    EXPECT(BYOL_OK, byol_extract(encoder, NULL, 0, NULL, NULL, 0, 0, NULL, never, E));
    EXPECT(BYOL_OK, byol_extract_encoded(encoder, NULL, NULL, 0, NULL, NULL, 0, 0, NULL, never, E));
    EXPECT(BYOL_OK, byol_extract_files(encoder, no_paths, 0, NULL, NULL, 0, 0, NULL, never, E));
    MUST(byol_extract(encoder, set.images, COUNT, NULL, features, 0, length, NULL, never, E));

    /* Fit. */
#define FIT(x, rows, columns, stride, y, classes, enc, opt, tok, to, rep) \
    byol_head_fit(x, rows, columns, stride, y, NULL, classes, enc, opt, NULL, NULL, tok, to, rep, E)
    EXPECT(BYOL_E_NULL_POINTER, FIT(NULL, COUNT, dimension, 0, set.labels, CLASSES, none, NULL, never, &head_out, NULL));
    EXPECT(BYOL_E_NULL_POINTER, FIT(features, COUNT, dimension, 0, NULL, CLASSES, none, NULL, never, &head_out, NULL));
    EXPECT(BYOL_E_NULL_POINTER, FIT(features, COUNT, dimension, 0, set.labels, CLASSES, none, NULL, never, NULL, NULL));
    EXPECT(BYOL_E_SHAPE, FIT(features, COUNT, dimension, 1, set.labels, CLASSES, none, NULL, never, &head_out, NULL));
    EXPECT(BYOL_E_INVALID_ARG, FIT(features, SIZE_MAX, dimension, 0, set.labels, CLASSES, none, NULL, never, &head_out, NULL));
    EXPECT(BYOL_E_INVALID_ARG, FIT(odd, COUNT, dimension, 0, set.labels, CLASSES, none, NULL, never, &head_out, NULL));
    EXPECT(BYOL_E_INVALID_ARG, FIT(features, COUNT, dimension, 0, set.labels, UINT32_MAX, none, NULL, never, &head_out, NULL));
    EXPECT(BYOL_E_LABEL, FIT(features, COUNT, dimension, 0, set.labels, 1, none, NULL, never, &head_out, NULL));
    EXPECT(BYOL_E_LABEL, FIT(features, COUNT, dimension, 0, set.labels, 0, none, NULL, never, &head_out, NULL));
    for (int i = 1; i < 5; i++)
        EXPECT(BYOL_E_HANDLE, FIT(features, COUNT, dimension, 0, set.labels, CLASSES, encoder_bad[i], NULL, never, &head_out, NULL));
    BAD_HANDLES(token, FIT(features, COUNT, dimension, 0, set.labels, CLASSES, none, NULL, token, &head_out, NULL));
    BAD_STRUCT(byol_fit_options, &fit, FIT(features, COUNT, dimension, 0, set.labels, CLASSES, none, &fit, never, &head_out, NULL));
    BAD_STRUCT(byol_fit_report, &report,
               FIT(features, COUNT, dimension, 0, set.labels, CLASSES, none, NULL, never, &head_out, &report));
    fit.standardize = 2;
    EXPECT(BYOL_E_INVALID_ARG, FIT(features, COUNT, dimension, 0, set.labels, CLASSES, none, &fit, never, &head_out, NULL));
    fit.standardize = 0, fit.tolerance = -1;
    EXPECT(BYOL_E_INVALID_ARG, FIT(features, COUNT, dimension, 0, set.labels, CLASSES, none, &fit, never, &head_out, NULL));
    paths[0] = "only one";
    {
        const char *names[CLASSES] = {"a", "b", NULL, "d"};
        EXPECT(BYOL_E_NULL_POINTER, byol_head_fit(features, COUNT, dimension, 0, set.labels, names, CLASSES, none, NULL, NULL,
                                                  NULL, never, &head_out, NULL, E));
        names[2] = "\xff";
        EXPECT(BYOL_E_INVALID_ARG, byol_head_fit(features, COUNT, dimension, 0, set.labels, names, CLASSES, none, NULL, NULL,
                                                 NULL, never, &head_out, NULL, E));
    }

    /* Head. */
    EXPECT(BYOL_E_NULL_POINTER, byol_head_load(NULL, &head_out, E));
    EXPECT(BYOL_E_NULL_POINTER, byol_head_load("x", NULL, E));
    EXPECT(BYOL_E_NOT_FOUND, byol_head_load("no/such/head", &head_out, E));
    EXPECT(BYOL_E_CORRUPT, byol_head_load(argv[1], &head_out, E));
    EXPECT(BYOL_E_NULL_POINTER, byol_head_load_bytes(NULL, 5, &head_out, E));
    EXPECT(BYOL_E_NULL_POINTER, byol_head_load_bytes(NULL, 0, &head_out, E));
    EXPECT(BYOL_E_NULL_POINTER, byol_head_load_bytes(bytes, 5, NULL, E));
    EXPECT(BYOL_E_INVALID_ARG, byol_head_load_bytes(bytes, SIZE_MAX, &head_out, E));
    EXPECT(BYOL_E_CORRUPT, byol_head_load_bytes(bytes, sizeof bytes, &head_out, E));
    EXPECT(BYOL_E_NULL_POINTER, byol_head_save(head, NULL, E));
    EXPECT(BYOL_E_INVALID_ARG, byol_head_save(head, "", E));
    EXPECT(BYOL_E_NOT_FOUND, byol_head_save(head, "no/such/folder/head", E));
    BAD_HANDLES(head, byol_head_save(head, "no/such/folder/head", E));
    EXPECT(BYOL_E_NULL_POINTER, byol_head_save_bytes(head, NULL, 0, NULL, E));
    EXPECT(BYOL_E_NULL_POINTER, byol_head_save_bytes(head, NULL, 1, &needed, E));
    EXPECT(BYOL_E_BUFFER_TOO_SMALL, byol_head_save_bytes(head, bytes, sizeof bytes, &needed, E));
    BAD_HANDLES(head, byol_head_save_bytes(head, bytes, sizeof bytes, &needed, E));
    EXPECT(BYOL_E_NULL_POINTER, byol_head_get_info(head, NULL, E));
    BAD_HANDLES(head, byol_head_get_info(head, &about, E));
    BAD_STRUCT(byol_head_info, &about, byol_head_get_info(head, &about, E));
    EXPECT(BYOL_E_NULL_POINTER, byol_head_get_label(head, 0, NULL, 0, NULL, E));
    EXPECT(BYOL_E_NOT_FOUND, byol_head_get_label(head, UINT32_MAX, text, sizeof text, &needed, E));
    BAD_HANDLES(head, byol_head_get_label(head, 0, text, sizeof text, &needed, E));
    BAD_HANDLES(head, byol_head_check(head, encoder, E));
    BAD_HANDLES(encoder, byol_head_check(head, encoder, E));
    memset(out, 0, sizeof out), memset(labels, 0xee, sizeof labels);
#define PREDICT(x, rows, columns, stride, y, p, len) byol_head_predict(head, x, rows, columns, stride, y, p, len, E)
    EXPECT(BYOL_E_NULL_POINTER, PREDICT(NULL, COUNT, dimension, 0, labels, out, COUNT * CLASSES));
    EXPECT(BYOL_E_NULL_POINTER, PREDICT(features, COUNT, dimension, 0, NULL, NULL, 0));
    EXPECT(BYOL_E_BUFFER_TOO_SMALL, PREDICT(features, COUNT, dimension, 0, labels, out, COUNT * CLASSES - 1));
    EXPECT(BYOL_E_SHAPE, PREDICT(features, COUNT, dimension - 1, 0, labels, out, COUNT * CLASSES));
    EXPECT(BYOL_E_SHAPE, PREDICT(features, COUNT, dimension, 1, labels, out, COUNT * CLASSES));
    EXPECT(BYOL_E_SHAPE, PREDICT(features, 0, 0, 0, labels, out, 0));
    EXPECT(BYOL_E_INVALID_ARG, PREDICT(features, SIZE_MAX, SIZE_MAX, 0, labels, out, COUNT * CLASSES));
    EXPECT(BYOL_E_INVALID_ARG, PREDICT(odd, COUNT, dimension, 0, labels, out, COUNT * CLASSES));
    BAD_HANDLES(head, PREDICT(features, COUNT, dimension, 0, labels, out, COUNT * CLASSES));
    EXPECT(BYOL_OK, PREDICT(NULL, 0, dimension, 0, labels, out, 0));
#define LOGITS(x, columns, l, len) byol_head_logits(head, x, COUNT, columns, 0, l, len, E)
    EXPECT(BYOL_E_NULL_POINTER, LOGITS(NULL, dimension, out, COUNT * CLASSES));
    EXPECT(BYOL_E_NULL_POINTER, LOGITS(features, dimension, NULL, COUNT * CLASSES));
    EXPECT(BYOL_E_BUFFER_TOO_SMALL, LOGITS(features, dimension, out, 1));
    EXPECT(BYOL_E_SHAPE, LOGITS(features, dimension - 1, out, COUNT * CLASSES));
    BAD_HANDLES(head, LOGITS(features, dimension, out, COUNT * CLASSES));
#define CLASSIFY(images, y, p, len, tok) byol_head_classify(head, encoder, images, COUNT, NULL, y, p, len, NULL, tok, E)
    EXPECT(BYOL_E_NULL_POINTER, CLASSIFY(NULL, labels, NULL, 0, never));
    EXPECT(BYOL_E_NULL_POINTER, CLASSIFY(set.images, NULL, NULL, 0, never));
    EXPECT(BYOL_E_BUFFER_TOO_SMALL, CLASSIFY(set.images, labels, out, 3, never));
    BAD_HANDLES(head, CLASSIFY(set.images, labels, NULL, 0, never));
    BAD_HANDLES(encoder, CLASSIFY(set.images, labels, NULL, 0, never));
    BAD_HANDLES(token, CLASSIFY(set.images, labels, NULL, 0, token));
    BAD_STRUCT(byol_image, &set.images[0], CLASSIFY(set.images, labels, NULL, 0, never));
    BAD_STRUCT(byol_extract_options, &extract,
               byol_head_classify(head, encoder, set.images, COUNT, &extract, labels, NULL, 0, NULL, never, E));
#define EVALUATE(x, y, m, p, plen, c, clen) \
    byol_head_evaluate(head, x, COUNT, dimension, 0, y, m, p, plen, c, clen, E)
    EXPECT(BYOL_E_NULL_POINTER, EVALUATE(NULL, set.labels, &metrics, NULL, 0, NULL, 0));
    EXPECT(BYOL_E_NULL_POINTER, EVALUATE(features, NULL, &metrics, NULL, 0, NULL, 0));
    EXPECT(BYOL_E_NULL_POINTER, EVALUATE(features, set.labels, NULL, NULL, 0, NULL, 0));
    EXPECT(BYOL_E_BUFFER_TOO_SMALL, EVALUATE(features, set.labels, &metrics, per_class, 3 * CLASSES - 1, NULL, 0));
    EXPECT(BYOL_E_BUFFER_TOO_SMALL, EVALUATE(features, set.labels, &metrics, NULL, 0, confusion, CLASSES));
    EXPECT(BYOL_E_LABEL, EVALUATE(features, labels, &metrics, NULL, 0, NULL, 0));
    EXPECT(BYOL_E_DATA, byol_head_evaluate(head, features, 0, dimension, 0, labels, &metrics, NULL, 0, NULL, 0, E));
    BAD_HANDLES(head, EVALUATE(features, set.labels, &metrics, NULL, 0, NULL, 0));
    BAD_STRUCT(byol_metrics, &metrics, EVALUATE(features, set.labels, &metrics, NULL, 0, NULL, 0));
    for (size_t i = 0; i < COUNT; i++)
        CHECK(labels[i] == 0xeeeeeeeeu && out[i] == 0);
    CHECK(head_out.id == 42 && token_out.id == 42 && metrics.examples == 0);

    /* Neighbours. */
#define KNN(x, y, q, k, t, to) byol_knn_predict(x, COUNT, 0, y, q, COUNT, 0, dimension, k, t, to, E)
    EXPECT(BYOL_E_NULL_POINTER, KNN(NULL, set.labels, features, 1, 0, labels));
    EXPECT(BYOL_E_NULL_POINTER, KNN(features, NULL, features, 1, 0, labels));
    EXPECT(BYOL_E_NULL_POINTER, KNN(features, set.labels, NULL, 1, 0, labels));
    EXPECT(BYOL_E_NULL_POINTER, KNN(features, set.labels, features, 1, 0, NULL));
    EXPECT(BYOL_E_INVALID_ARG, KNN(features, set.labels, features, 0, 0, labels));
    EXPECT(BYOL_E_INVALID_ARG, KNN(features, set.labels, features, 1, -1, labels));
    EXPECT(BYOL_E_DATA, byol_knn_predict(features, 0, 0, labels, features, 1, 0, dimension, 1, 0, labels, E));

    /* A caller of a later version: longer structs, whose unknown fields must be 0. */
    {
        struct {
            byol_extract_options now;
            uint32_t later[2];
        } longer = {BYOL_EXTRACT_OPTIONS_INIT, {0, 0}};
        longer.now.struct_size = sizeof longer;
        EXPECT(BYOL_OK, byol_extract(encoder, set.images, COUNT, &longer.now, features, 0, length, NULL, never, E));
        longer.later[1] = 1;
        EXPECT(BYOL_E_ABI, byol_extract(encoder, set.images, COUNT, &longer.now, features, 0, length, NULL, never, E));
    }
    {
        /* A caller of the first version: what came later is not read, whatever stands there. */
        byol_extract_options shorter = BYOL_EXTRACT_OPTIONS_INIT;
        shorter.struct_size = 8, shorter.element = 77;
        EXPECT(BYOL_OK, byol_extract(encoder, set.images, COUNT, &shorter, features, 0, length, NULL, never, E));
        /* A size that no version had. */
        shorter.struct_size = 16, shorter.element = 0;
        EXPECT(BYOL_E_ABI, byol_extract(encoder, set.images, COUNT, &shorter, features, 0, length, NULL, never, E));
    }
    {
        struct {
            byol_head_info now;
            uint64_t later[2];
        } longer;
        memset(&longer, 0x5a, sizeof longer);
        longer.now.struct_size = sizeof longer - 8;
        EXPECT(BYOL_OK, byol_head_get_info(head, &longer.now, E));
        CHECK(longer.now.classes == CLASSES && longer.later[0] == 0 && longer.later[1] == 0x5a5a5a5a5a5a5a5a);
        CHECK(longer.now.struct_size == sizeof longer - 8);
    }
    {
        struct {
            byol_image now;
            uint64_t later;
        } longer[2] = {{set.images[0], 0}, {set.images[1], 0}};
        longer[0].now.struct_size = longer[1].now.struct_size = sizeof longer[0];
        EXPECT(BYOL_OK, byol_extract(encoder, &longer[0].now, 2, NULL, features, 0, length, NULL, never, E));
        longer[1].later = 1;
        EXPECT(BYOL_E_ABI, byol_extract(encoder, &longer[0].now, 2, NULL, features, 0, length, NULL, never, E));
    }

    free(features);
    EXPECT(BYOL_OK, byol_runtime_close(runtime, E));
    EXPECT(BYOL_OK, byol_encoder_close(encoder, E));
    EXPECT(BYOL_OK, byol_head_close(head, E));
    EXPECT(BYOL_OK, byol_cancel_close(token, E));
    CHECK(byol_live_handles(BYOL_KIND_ANY) == 0);

    /* The end: everything but versions and statuses says so. */
    EXPECT(BYOL_OK, byol_shutdown(E));
    EXPECT(BYOL_OK, byol_shutdown(E));
    EXPECT(BYOL_E_SHUTDOWN, byol_cancel_create(0, &token_out, E));
    EXPECT(BYOL_E_SHUTDOWN, byol_encoder_close(encoder_bad[0], E));
    EXPECT(BYOL_OK, byol_abi_check(BYOL_VERSION_MAJOR, BYOL_VERSION_MINOR, E));
    return check_end("misuse");
}
