#include "callback.h"

#include "_cgo_export.h"

static void receive(void *user, uint32_t level, const char *message)
{
    byolGoLog((uintptr_t)user, level, (char *)message);
}

static void drop(void *user)
{
    byolGoDrop((uintptr_t)user);
}

static int32_t progress(void *user, uint64_t iteration, double objective, double gap)
{
    return byolGoProgress((uintptr_t)user, iteration, objective, gap);
}

byol_status byol_go_set_log_sink(uintptr_t user, uint32_t level, byol_error *error)
{
    if (!user)
        return byol_set_log_sink(NULL, NULL, NULL, level, error);
    return byol_set_log_sink(receive, (void *)user, drop, level, error);
}

byol_status byol_go_head_fit(const float *features, size_t rows, size_t columns, size_t row_stride, const uint32_t *labels,
                             const char *const *class_names, uint32_t classes, byol_encoder encoder,
                             const byol_fit_options *options, uintptr_t user, byol_cancel token, byol_head *head,
                             byol_fit_report *report, byol_error *error)
{
    return byol_head_fit(features, rows, columns, row_stride, labels, class_names, classes, encoder, options,
                         user ? progress : NULL, (void *)user, token, head, report, error);
}
