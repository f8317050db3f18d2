/*
 * A host application, in the common language of C and C++: extracts the features of one picture, and says where the ONNX
 * Runtime that it uses lies. install.sh builds it in every way that an installed libbyol can be linked.
 */
#include <byol.h>
#include <stdio.h>
#include <string.h>

static int failed(const char *what, const byol_error *error)
{
    fprintf(stderr, "%s: %s\n", what, error->message);
    return 1;
}

int main(int argc, char **argv)
{
    const byol_runtime any = {0};
    const byol_cancel never = {0};
    static unsigned char pixels[28 * 28];
    static float features[4096];
    static char about[4096];
    byol_error error = BYOL_ERROR_INIT;
    byol_source source = BYOL_SOURCE_INIT;
    byol_image image = BYOL_IMAGE_INIT;
    byol_encoder encoder = {0};
    double sum = 0;
    size_t i;
    if (argc != 2) {
        fprintf(stderr, "usage: features ENCODER.onnx\n");
        return 2;
    }
    for (i = 0; i < sizeof pixels; i++)
        pixels[i] = (unsigned char)(i * 7);
    source.path = argv[1];
    image.format = BYOL_FORMAT_GRAY8;
    image.width = image.height = 28;
    image.data = pixels;
    image.data_len = sizeof pixels;
    if (byol_abi_check(BYOL_VERSION_MAJOR, BYOL_VERSION_MINOR, &error))
        return failed("libbyol", &error);
    if (byol_encoder_open(any, &source, NULL, &encoder, &error))
        return failed("open", &error);
    if (byol_extract(encoder, &image, 1, NULL, features, 0, 4096, NULL, never, &error))
        return failed("extract", &error);
    if (byol_build_info(about, sizeof about, NULL, &error))
        return failed("build info", &error);
    for (i = 0; i < 4096; i++)
        sum += (double)features[i];
    printf("%.6f %s\n", sum, about);
    return byol_encoder_close(encoder, &error) ? failed("close", &error) : 0;
}
