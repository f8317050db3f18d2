/*
 * Ways to end a process that uses libbyol, with handles open and extractions running: leave ENCODER PLUGIN WAY. The program
 * itself does not link libbyol, its plug-in does.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *plugin;

static void *leave_from_a_thread(void *later)
{
    if (later)
        usleep(20000);
    exit(0);
}

int main(int argc, char **argv)
{
    int (*start)(const char *);
    void (*stop)(int);
    const char *way;
    if (argc != 4 || !(plugin = dlopen(argv[2], RTLD_NOW | RTLD_LOCAL))) {
        fprintf(stderr, "%s\n", argc == 4 ? dlerror() : "usage: leave ENCODER PLUGIN WAY");
        return 2;
    }
    *(void **)&start = dlsym(plugin, "plugin_start");
    *(void **)&stop = dlsym(plugin, "plugin_stop");
    if (!start || !stop || start(argv[1]) != 0) {
        fprintf(stderr, "the plug-in does not start\n");
        return 2;
    }
    way = argv[3];
    if (strcmp(way, "return") == 0)
        return 0;
    if (strcmp(way, "exit") == 0)
        exit(0);
    if (strcmp(way, "_exit") == 0)
        _exit(0);
    if (strcmp(way, "quick_exit") == 0)
        quick_exit(0);
    if (strcmp(way, "exit-from-thread") == 0) {
        pthread_t thread;
        pthread_create(&thread, NULL, leave_from_a_thread, NULL);
        pthread_join(thread, NULL);
        return 3;
    }
    if (strcmp(way, "pthread_exit") == 0) {
        /* The process lives until all threads have ended, and ONNX Runtime's never do: somebody has to call exit. */
        pthread_t thread;
        stop(0);
        pthread_create(&thread, NULL, leave_from_a_thread, plugin);
        pthread_exit(NULL);
    }
    if (strcmp(way, "dlclose") == 0) {
        stop(1);
        if (dlclose(plugin) != 0)
            return 4;
        plugin = dlopen(argv[2], RTLD_NOW | RTLD_LOCAL);
        return plugin && dlclose(plugin) == 0 ? 0 : 5;
    }
    return 6;
}
