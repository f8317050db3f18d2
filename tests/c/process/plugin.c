/* A plug-in that uses libbyol and leaves handles open, with or without threads that go on working. */
#include <byol.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { COUNT = 200 };

static byol_encoder encoder;
static unsigned char pixels[28 * 28];
static byol_image images[COUNT];
static pthread_t threads[2];
static atomic_int done, working;

static void *work(void *unused)
{
    const byol_cancel never = {0};
    float *features = malloc(COUNT * 4096 * sizeof *features);
    while (!atomic_load(&done)) {
        if (byol_extract(encoder, images, COUNT, NULL, features, 0, COUNT * 4096, NULL, never, NULL) == BYOL_OK)
            working++;
    }
    free(features);
    return unused;
}

/* 0 once both threads have extracted something. */
int plugin_start(const char *path);
int plugin_start(const char *path)
{
    const byol_runtime any = {0};
    byol_source source = BYOL_SOURCE_INIT;
    byol_cancel token;
    source.path = path;
    for (int i = 0; i < COUNT; i++) {
        byol_image image = BYOL_IMAGE_INIT;
        image.format = BYOL_FORMAT_GRAY8, image.width = image.height = 28;
        image.data = pixels, image.data_len = sizeof pixels;
        images[i] = image;
    }
    if (byol_encoder_open(any, &source, NULL, &encoder, NULL) || byol_cancel_create(0, &token, NULL))
        return 1;
    for (int i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, work, NULL))
            return 1;
    while (atomic_load(&working) < 3)
        ;
    return 0;
}

/* Lets the threads come to their end, and waits for them if asked to. */
void plugin_stop(int join);
void plugin_stop(int join)
{
    atomic_store(&done, 1);
    for (int i = 0; join && i < 2; i++)
        pthread_join(threads[i], NULL);
}
