/* Calls into libbyol that give it a callback. Go's callbacks are known by a number, which C carries as a pointer. */
#ifndef BYOL_GO_CALLBACK_H
#define BYOL_GO_CALLBACK_H

#include <byol.h>

byol_status byol_go_set_log_sink(uintptr_t user, uint32_t level, byol_error *error);

byol_status byol_go_head_fit(const float *features, size_t rows, size_t columns, size_t row_stride, const uint32_t *labels,
                             const char *const *class_names, uint32_t classes, byol_encoder encoder,
                             const byol_fit_options *options, uintptr_t user, byol_cancel token, byol_head *head,
                             byol_fit_report *report, byol_error *error);

#endif
