#ifndef BYOL_GO_LAYOUT_H
#define BYOL_GO_LAYOUT_H

#include <byol.h>

struct byol_go_field {
    const char *type_name, *field; /* an empty field is the struct itself */
    size_t offset, size;
};

const struct byol_go_field *byol_go_fields(void);
size_t byol_go_field_count(void);

#endif
