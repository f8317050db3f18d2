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

static int32_t search_progress(void *user, double l2, double accuracy, double log_loss)
{
    return byolGoSearch((uintptr_t)user, l2, accuracy, log_loss);
}

byol_status byol_go_set_log_sink(uintptr_t user, uint32_t level, byol_error *error)
{
    if (!user)
        return byol_set_log_sink(NULL, NULL, NULL, level, error);
    return byol_set_log_sink(receive, (void *)user, drop, level, error);
}

byol_status byol_go_head_fit(byol_head start, const float *features, size_t rows, size_t columns, size_t row_stride,
                             const uint32_t *labels, const char *const *class_names, uint32_t classes,
                             byol_encoder encoder, const byol_fit_options *options, uintptr_t user, byol_cancel token,
                             byol_head *head, byol_fit_report *report, byol_error *error)
{
    byol_fit_callback hear = user ? progress : NULL;
    if (start.id)
        return byol_head_refit(start, features, rows, columns, row_stride, labels, class_names, classes, encoder, options,
                               hear, (void *)user, token, head, report, error);
    return byol_head_fit(features, rows, columns, row_stride, labels, class_names, classes, encoder, options, hear,
                         (void *)user, token, head, report, error);
}

byol_status byol_go_trainer_fit(byol_trainer trainer, int again, const byol_fit_options *options, uintptr_t user,
                                byol_cancel token, byol_head *head, byol_fit_report *report, byol_error *error)
{
    byol_fit_callback hear = user ? progress : NULL;
    if (again)
        return byol_trainer_refit(trainer, options, hear, (void *)user, token, head, report, error);
    return byol_trainer_fit(trainer, options, hear, (void *)user, token, head, report, error);
}

byol_status byol_go_trainer_search(byol_trainer trainer, const byol_fit_options *fit_options,
                                   const byol_search_options *options, uintptr_t user, byol_cancel token, byol_head *head,
                                   byol_fit_report *report, double *tried, size_t tried_len, size_t *tried_count,
                                   byol_error *error)
{
    return byol_trainer_search(trainer, fit_options, options, user ? search_progress : NULL, (void *)user, token, head,
                               report, tried, tried_len, tried_count, error);
}
