/*
 * libbyol beside others in one process: coexist ENCODER LIBRARY..., loaded and used in this order. `byol:FILE` is libbyol,
 * `ort:FILE` another ONNX Runtime, of which an environment is made, `rust:FILE` the library of other.rs, `any:FILE` one that
 * is only loaded; `-` for FILE is this program itself, where libbyol is linked into it. All symbols are made global, which is
 * the hardest case. Prints the sum of the features.
 */
#include <byol.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static void *load(const char *path)
{
    void *library = dlopen(strcmp(path, "-") == 0 ? NULL : path, RTLD_NOW | RTLD_GLOBAL);
    if (!library)
        fprintf(stderr, "%s\n", dlerror());
    return library;
}

/* As far as the C API's table of functions has been the same since 1.0: CreateEnv is the fourth. */
static int use_ort(void *library)
{
    struct base {
        void *const *(*get_api)(uint32_t);
        const char *(*version)(void);
    };
    const struct base *(*get_base)(void);
    void *(*create_env)(int, const char *, void **);
    void *const *api, *environment = NULL;
    *(void **)&get_base = dlsym(library, "OrtGetApiBase");
    if (!get_base || !(api = get_base()->get_api(11)))
        return 1;
    *(void **)&create_env = api[3];
    printf("other ONNX Runtime %s\n", get_base()->version());
    return create_env(3, "host", (void **)&environment) != NULL || !environment;
}

static int use_byol(void *library, const char *path)
{
    static unsigned char pixels[28 * 28];
    static float features[4096];
    static char about[4096];
    const byol_runtime any = {0};
    const byol_cancel never = {0};
    byol_error error = BYOL_ERROR_INIT;
    byol_source source = BYOL_SOURCE_INIT;
    byol_image image = BYOL_IMAGE_INIT;
    byol_encoder encoder = {0};
    byol_status (*open)(byol_runtime, const byol_source *, const byol_encoder_options *, byol_encoder *, byol_error *);
    byol_status (*extract)(byol_encoder, const byol_image *, size_t, const byol_extract_options *, float *, size_t, size_t,
                           byol_status *, byol_cancel, byol_error *);
    byol_status (*build_info)(char *, size_t, size_t *, byol_error *);
    double sum = 0;
    *(void **)&open = dlsym(library, "byol_encoder_open");
    *(void **)&extract = dlsym(library, "byol_extract");
    *(void **)&build_info = dlsym(library, "byol_build_info");
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (unsigned char)(i * 7);
    source.path = path;
    image.format = BYOL_FORMAT_GRAY8, image.width = image.height = 28, image.data = pixels, image.data_len = sizeof pixels;
    if (!open || !extract || !build_info || open(any, &source, NULL, &encoder, &error) ||
        extract(encoder, &image, 1, NULL, features, 0, 4096, NULL, never, &error) ||
        build_info(about, sizeof about, NULL, &error)) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    for (size_t i = 0; i < 4096; i++)
        sum += (double)features[i];
    printf("features %.6f %s\n", sum, about);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    for (int i = 2; i < argc; i++) {
        const char *file = strchr(argv[i], ':') + 1;
        void *library = load(file);
        if (!library)
            return 1;
        if (strncmp(argv[i], "byol:", 5) == 0 && use_byol(library, argv[1]))
            return 1;
        if (strncmp(argv[i], "ort:", 4) == 0 && use_ort(library)) {
            fprintf(stderr, "%s can't be used\n", file);
            return 1;
        }
        if (strncmp(argv[i], "rust:", 5) == 0) {
            int (*answer)(void);
            *(void **)&answer = dlsym(library, "other_answer");
            if (!answer || answer() != 42)
                return 1;
        }
    }
    return 0;
}
