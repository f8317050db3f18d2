/* Calls into libbyol that give it a callback. Go's callbacks are known by a number, which C carries as a pointer. */
#ifndef BYOL_GO_CALLBACK_H
#define BYOL_GO_CALLBACK_H

#include <byol.h>

byol_status byol_go_set_log_sink(uintptr_t user, uint32_t level, byol_error *error);

/* byol_head_refit, where `start` is a head; else byol_head_fit. */
byol_status byol_go_head_fit(byol_head start, const float *features, size_t rows, size_t columns, size_t row_stride,
                             const uint32_t *labels, const char *const *class_names, uint32_t classes,
                             byol_encoder encoder, const byol_fit_options *options, uintptr_t user, byol_cancel token,
                             byol_head *head, byol_fit_report *report, byol_error *error);

/* byol_trainer_refit with `again`, else byol_trainer_fit. */
byol_status byol_go_trainer_fit(byol_trainer trainer, int again, const byol_fit_options *options, uintptr_t user,
                                byol_cancel token, byol_head *head, byol_fit_report *report, byol_error *error);

byol_status byol_go_trainer_search(byol_trainer trainer, const byol_fit_options *fit_options,
                                   const byol_search_options *options, uintptr_t user, byol_cancel token, byol_head *head,
                                   byol_fit_report *report, double *tried, size_t tried_len, size_t *tried_count,
                                   byol_error *error);

#endif
