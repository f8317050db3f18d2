/* Pictures in every form that byol_image has, and what an encoded one says of itself. */
#include "check.h"

#include <math.h>

enum { WIDE = 30, HIGH = 20 };

static byol_encoder encoder;
static uint32_t dimension;

static void extract(const byol_image *image, float *features)
{
    const byol_cancel never = {0};
    MUST(byol_extract(encoder, image, 1, NULL, features, 0, dimension, NULL, never, E));
}

/* How far the features of two pictures are apart, relative to their size. */
static double distance(const byol_image *one, const byol_image *other)
{
    float a[64], b[64];
    double difference = 0, size = 0;
    extract(one, a);
    extract(other, b);
    for (uint32_t i = 0; i < dimension; i++) {
        difference += pow((double)a[i] - (double)b[i], 2);
        size += pow((double)a[i], 2);
    }
    return sqrt(difference / size);
}

static byol_image view(uint32_t format, uint32_t width, uint32_t height, const void *data, size_t data_len)
{
    byol_image image = BYOL_IMAGE_INIT;
    image.format = format, image.width = width, image.height = height;
    image.data = data, image.data_len = data_len;
    return image;
}

/* Colours that nothing mirrored or turned resembles. */
static unsigned char colour(uint32_t x, uint32_t y, uint32_t c)
{
    return (unsigned char)((x * 7 + y * 3 * (c + 1) + (x > 20 ? 90 : 0) + (y > 12 ? 40 * c : 0)) % 256);
}

static byol_status status_of(const byol_image *image)
{
    static float features[64];
    const byol_cancel never = {0};
    return byol_extract(encoder, image, 1, NULL, features, 0, 64, NULL, never, NULL);
}

int main(int argc, char **argv)
{
    static unsigned char rgb[HIGH][WIDE][3], bgr[HIGH][WIDE][3], rgba[HIGH][WIDE][4], bgra[HIGH][WIDE][4], turned[WIDE][HIGH][3];
    static unsigned char premultiplied[HIGH][WIDE][4], framed[HIGH + 4][WIDE + 6][3], nv12[HIGH * 3 / 2 * WIDE], gray[HIGH][WIDE];
    static uint16_t deep[HIGH][WIDE][3], gray16[HIGH][WIDE];
    static float floats[HIGH][WIDE][3], planes[3][HIGH][WIDE];
    byol_image base, image;
    if (argc != 4)
        return 2;
    encoder = encoder_open(argv[1]);
    dimension = encoder_dimension(encoder);
    for (uint32_t y = 0; y < HIGH; y++)
        for (uint32_t x = 0; x < WIDE; x++) {
            unsigned alpha = 255 - (x * 5 + y) % 128;
            for (uint32_t c = 0; c < 3; c++) {
                unsigned char v = colour(x, y, c);
                rgb[y][x][c] = bgr[y][x][2 - c] = rgba[y][x][c] = bgra[y][x][2 - c] = framed[y + 1][x + 2][c] = v;
                premultiplied[y][x][c] = (unsigned char)((v * alpha + 127) / 255);
                deep[y][x][c] = (uint16_t)(v * 257);
                floats[y][x][c] = planes[c][y][x] = (float)v / 255;
                turned[x][HIGH - 1 - y][c] = v;
            }
            premultiplied[y][x][3] = rgba[y][x][3] = (unsigned char)alpha;
            gray[y][x] = colour(x, y, 0);
            gray16[y][x] = (uint16_t)(gray[y][x] * 257);
        }
    base = view(BYOL_FORMAT_RGB8, WIDE, HIGH, rgb, sizeof rgb);

    /* The same picture in other forms has the same features, bit for bit. */
    image = view(BYOL_FORMAT_BGR8, WIDE, HIGH, bgr, sizeof bgr);
    CHECK(distance(&base, &image) <= 0);
    image = view(BYOL_FORMAT_RGBA8, WIDE, HIGH, rgba, sizeof rgba);
    CHECK(distance(&base, &image) <= 0);
    image.format = BYOL_FORMAT_RGBX8;
    CHECK(distance(&base, &image) <= 0);
    image = view(BYOL_FORMAT_BGRA8, WIDE, HIGH, bgra, sizeof bgra);
    CHECK(distance(&base, &image) <= 0);
    image = view(BYOL_FORMAT_RGB16, WIDE, HIGH, deep, sizeof deep);
    CHECK(distance(&base, &image) <= 0);
    image = view(BYOL_FORMAT_RGBF32, WIDE, HIGH, floats, sizeof floats);
    CHECK(distance(&base, &image) <= 0);
    image = view(BYOL_FORMAT_RGBF32_PLANAR, WIDE, HIGH, planes, sizeof planes);
    CHECK(distance(&base, &image) <= 0);
    {
        byol_image plain = view(BYOL_FORMAT_GRAY8, WIDE, HIGH, gray, sizeof gray);
        image = view(BYOL_FORMAT_GRAY16, WIDE, HIGH, gray16, sizeof gray16);
        CHECK(distance(&plain, &image) <= 0 && distance(&plain, &base) > 0);
        /* Neutral chroma: luma alone, in full range the same, in video range brought back to it. */
        memset(nv12, 128, sizeof nv12);
        memcpy(nv12, gray, sizeof gray);
        image = view(BYOL_FORMAT_NV12_FULL, WIDE, HIGH, nv12, sizeof nv12);
        CHECK(distance(&plain, &image) <= 0);
        for (size_t i = 0; i < sizeof gray; i++)
            nv12[i] = (unsigned char)(16 + (nv12[i] * 219 + 127) / 255);
        image.format = BYOL_FORMAT_NV12;
        CHECK(distance(&plain, &image) < 0.02);
        image.data_len--;
        CHECK(status_of(&image) == BYOL_E_INVALID_ARG);
    }

    /* Colours multiplied by alpha come back but for their rounding; taken as they are, they are another picture. */
    image = view(BYOL_FORMAT_RGBA8, WIDE, HIGH, premultiplied, sizeof premultiplied);
    CHECK(distance(&base, &image) > 0.03);
    image.alpha = BYOL_ALPHA_PREMULTIPLIED;
    CHECK(distance(&base, &image) < 0.01);
    image.alpha = 2;
    CHECK(status_of(&image) == BYOL_E_INVALID_ARG);

    /* A part of a larger picture. */
    image = view(BYOL_FORMAT_RGB8, WIDE + 6, HIGH + 4, framed, sizeof framed);
    image.region_x = 2, image.region_y = 1, image.region_width = WIDE, image.region_height = HIGH;
    CHECK(distance(&base, &image) <= 0);
    image.region_x = 7;
    CHECK(status_of(&image) == BYOL_E_INVALID_ARG);
    image.region_x = 2, image.region_width = 0;
    CHECK(status_of(&image) == BYOL_E_INVALID_ARG);
    image.region_width = UINT32_MAX;
    CHECK(status_of(&image) == BYOL_E_INVALID_ARG);

    /* Orientation: 6 turns a quarter clockwise; mirroring twice is nothing; every other number is another picture. */
    image = view(BYOL_FORMAT_RGB8, HIGH, WIDE, turned, sizeof turned);
    base.orientation = 6;
    CHECK(distance(&base, &image) <= 0);
    for (uint32_t orientation = 0; orientation <= 8; orientation++) {
        /* What undoes it: itself where it mirrors or is a half, else the turn the other way. */
        const uint32_t back = orientation == 6 ? 8 : orientation == 8 ? 6 : orientation;
        const byol_image plain = view(BYOL_FORMAT_RGB8, WIDE, HIGH, rgb, sizeof rgb);
        static unsigned char upright[HIGH * WIDE * 3];
        const uint32_t w = orientation >= 5 ? HIGH : WIDE, h = orientation >= 5 ? WIDE : HIGH;
        for (uint32_t y = 0; y < h; y++)
            for (uint32_t x = 0; x < w; x++) {
                /* EXIF: where the pixel that belongs to x, y lies. */
                const uint32_t sx = orientation < 5 ? (orientation == 2 || orientation == 3 ? WIDE - 1 - x : x)
                                                    : (orientation == 7 || orientation == 8 ? WIDE - 1 - y : y);
                const uint32_t sy = orientation < 5 ? (orientation == 3 || orientation == 4 ? HIGH - 1 - y : y)
                                                    : (orientation == 6 || orientation == 7 ? HIGH - 1 - x : x);
                memcpy(upright + (y * w + x) * 3, rgb[sy][sx], 3);
            }
        base.orientation = orientation;
        image = view(BYOL_FORMAT_RGB8, w, h, upright, sizeof upright);
        CHECK(distance(&base, &image) <= 0);
        image.orientation = back;
        CHECK(distance(&plain, &image) <= 0);
        if (orientation > 1)
            CHECK(distance(&plain, &base) > 0.001);
    }
    base.orientation = 9;
    CHECK(status_of(&base) == BYOL_E_INVALID_ARG);
    base.orientation = UINT32_MAX;
    CHECK(status_of(&base) == BYOL_E_INVALID_ARG);

    /* What is no number is no colour. */
    floats[3][4][1] = NAN;
    image = view(BYOL_FORMAT_RGBF32, WIDE, HIGH, floats, sizeof floats);
    CHECK(status_of(&image) == BYOL_E_INVALID_ARG);
    floats[3][4][1] = 1e30f;
    CHECK(status_of(&image) == BYOL_OK);
    planes[2][3][4] = -INFINITY;
    image = view(BYOL_FORMAT_RGBF32_PLANAR, WIDE, HIGH, planes, sizeof planes);
    CHECK(status_of(&image) == BYOL_E_INVALID_ARG);

    /* A picture's header: a 2 x 3 BMP of 24 bit, and bytes that are none. */
    {
        static unsigned char bmp[78] = {'B', 'M', 78, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0,
                                        1, 0, 24, 0, 0, 0, 0, 0, 24};
        byol_image_info info = BYOL_IMAGE_INFO_INIT;
        MUST(byol_image_probe(bmp, sizeof bmp, &info, E));
        CHECK(info.width == 2 && info.height == 3 && info.channels == 3 && info.bits == 8 && info.has_alpha == 0);
        CHECK(info.orientation == 1 && strcmp(info.format, "bmp") == 0);
        EXPECT(BYOL_E_IMAGE_DECODE, byol_image_probe(bmp + 1, sizeof bmp - 1, &info, E));
        EXPECT(BYOL_E_IMAGE_DECODE, byol_image_probe(bmp, 0, &info, E));
        CHECK(info.width == 2);
    }
    byol_encoder_close(encoder, NULL);
    return check_end("picture");
}
