#!/usr/bin/env python3
"""Writes the misuse matrix, a C program, from include/byol.h: every function, every parameter, every wrong value.

For each parameter of each function that returns a status, one call per wrong value, all else as it should be:
- pointers: NULL, misaligned;  handles: 0, closed, of another kind, all ones, 64 random values;
- structs: struct_size 0, 1, one less, too large, larger with zeros behind (fine), larger with a bit set behind;
- fields and arguments that choose something (BYOL_..._*, "Must be 0"): one above the last, INT32_MAX, -1;
- sizes and counts: 0, 1, SIZE_MAX.
What must come back follows from the rules at the top of the header; where they leave it open (sizes), from the recorded
tests/c/matrix.expected. After a failure, not a byte of any output may have changed. A new function or parameter is in
the matrix by itself, or stops this script because it has no value that works.

`matrix.py forked` writes another program from the same table: while eight threads extract, it forks again and again, and
the child, where libbyol cannot work, calls every function as it should be called. Each must say so and write nothing.
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEADER = (ROOT / "include/byol.h").read_text()
HANDLES = ["runtime", "encoder", "head", "cancel", "features", "trainer"]


def member(handle):
    """What a handle is called in the program, where its own name is taken."""
    return {"cancel": "token", "features": "container"}.get(handle, handle)


# A value that works, by "function.parameter", else by parameter. Outputs lie in `out`, which is watched.
VALUES = {
    "major": "BYOL_VERSION_MAJOR", "minor": "BYOL_VERSION_MINOR", "callback": "NULL", "user": "NULL", "drop": "NULL",
    "level": "0", "timeout_ms": "0", "key": '"byol.input.height"', "index": "0", "class_index": "0",
    "buffer": "out.buffer", "capacity": "sizeof out.buffer", "needed": "&needed", "error": "E",
    "source": "&in.source.s", "images": "set.images", "count": "COUNT", "labels": "set.labels", "class_names": "NULL",
    "classes": "CLASSES", "progress": "NULL", "features": "rows", "rows": "COUNT", "columns": "dimension",
    "row_stride": "0", "features_len": "COUNT * 64", "item_status": "statuses", "token": "never",
    "values": "set.pixels", "values_len": "COUNT * SIDE * SIDE", "element": "BYOL_TENSOR_U8", "runtime": "any",
    "encoder": "fixed.encoder", "head": "fixed.head", "probabilities": "out.probabilities",
    "probabilities_len": "COUNT * CLASSES", "logits": "out.probabilities", "logits_len": "COUNT * CLASSES",
    "per_class": "out.per_class", "per_class_len": "3 * CLASSES", "confusion": "out.confusion",
    "confusion_len": "CLASSES * CLASSES", "train": "rows", "train_rows": "COUNT", "train_stride": "0",
    "queries": "rows", "query_rows": "COUNT", "query_stride": "0", "k": "3", "temperature": "0",
    "predicted": "out.labels", "path": "in.head_path", "paths": "in.paths", "info": None, "options": None,
    "report": "&out.fit_report.s", "metrics": "&out.metrics.s",
    "byol_extract_encoded.data": "in.files", "byol_extract_encoded.data_len": "in.lengths",
    "byol_extract_encoded.lengths": "in.lengths", "byol_extract_encoded.count": "1", "byol_extract_files.count": "1",
    "byol_head_load_bytes.data": "in.head_bytes", "byol_head_load_bytes.data_len": "in.head_len",
    "byol_head_predict.labels": "out.labels", "byol_head_classify.labels": "out.labels",
    "byol_head_save_bytes.buffer": "(uint8_t *)out.buffer", "byol_head_save.path": "in.saved_path", "byol_head_fit.encoder": "fixed.encoder",
    "byol_image_probe.data": "in.files[0]", "byol_image_probe.data_len": "in.lengths[0]",
    "byol_pack.element": "BYOL_ELEMENT_I8", "byol_pack.packed": "out.packed", "byol_pack.scales": "out.scales",
    "byol_unpack.element": "BYOL_ELEMENT_I8", "byol_unpack.packed": "in.packed", "byol_unpack.scales": "rows",
    "packed_len": "COUNT * 64", "byol_unpack.features": "out.features",
    "byol_head_top_k.k": "3", "threshold": "0", "byol_head_top_k.labels": "out.top", "labels_len": "COUNT * 3",
    "byol_head_create.weights": "rows", "byol_head_create.bias": "rows", "byol_head_get_weights.weights": "out.features",
    "weights_len": "COUNT * 64", "byol_head_get_weights.bias": "out.probabilities", "bias_len": "CLASSES",
    "byol_head_calibrate.temperature": "&out.temperature", "start": "fixed.head",
    "byol_head_export_onnx.encoder": "&in.source.s", "byol_head_export_onnx.path": "in.saved_path",
    "byol_head_export_onnx_bytes.encoder": "&in.source.s", "byol_head_export_onnx_bytes.buffer": "(uint8_t *)out.buffer",
    "byol_features_append.values": "rows", "byol_features_append.names": "in.row_names",
    "dimension": "(uint32_t)dimension",
    "byol_features_set_classes.class_names": "in.class_names", "first": "0", "row": "0",
    "byol_features_get_rows.values": "out.features", "byol_features_get_rows.values_len": "COUNT * 64",
    "byol_features_get_rows.labels": "out.labels", "byol_features_save.path": "in.features_path",
    "byol_features_load.path": "in.features_path", "similarities": "out.similarities",
    "similarities_len": "COUNT * COUNT", "nearest": "out.top", "nearest_len": "COUNT * 3",
    "name": '"new"', "byol_trainer_add_class.class_index": "&out.class_index", "examples": "&out.examples",
    "ids": "out.ids", "byol_trainer_remove.ids": "in.ids", "byol_trainer_remove.count": "1",
    "byol_trainer_add_encoded.data": "in.files", "byol_trainer_add_encoded.lengths": "in.lengths",
    "byol_trainer_add_encoded.count": "1", "byol_trainer_add_files.count": "1", "first_id": "&out.examples",
    "example": "in.ids[0]", "scale": "10", "tried": "out.tried", "tried_len": "4 * BYOL_SEARCH_PENALTIES",
    "tried_count": "&out.tried_count",
}
# Where an output has the name of an input elsewhere.
OUT_FEATURES = {"byol_extract", "byol_extract_encoded", "byol_extract_files", "byol_extract_tensor"}
# May be NULL, as the comments say.
NULLABLE = {"error", "options", "ids", "needed", "item_status", "class_names", "progress", "user", "callback", "drop", "report",
            "per_class", "confusion", "byol_head_predict.labels", "byol_head_predict.probabilities",
            "byol_head_classify.labels", "byol_head_classify.probabilities", "byol_head_top_k.labels",
            "byol_head_top_k.probabilities", "byol_head_create.bias", "byol_head_get_weights.weights",
            "byol_head_get_weights.bias", "byol_head_calibrate.temperature", "byol_head_export_onnx.encoder",
            "byol_head_export_onnx_bytes.encoder", "byol_features_append.names", "byol_features_get_rows.values",
            "byol_features_get_rows.labels", "byol_features_nearest.nearest", "byol_features_nearest.similarities",
            "byol_trainer_get_class.examples", "first_id", "fit_options", "tried", "tried_count"}
# And may not, though another of that name may.
NEEDED = {"byol_features_set_classes.class_names", "byol_trainer_remove.ids"}
# Depends on what is there: as recorded.
RECORDED = {"byol_features_append.labels", "byol_features_append.names"}
# Handle {0} stands for the default or for none.
OPTIONAL_HANDLES = {"byol_encoder_open.runtime", "byol_head_fit.encoder", "byol_head_refit.encoder",
                    "byol_head_create.encoder", "byol_features_create.encoder", "byol_trainer_create.encoder"}
ENUMS = {"level": ("BYOL_LOG_", 0), "element": ("BYOL_TENSOR_", 1), "byol_pack.element": ("BYOL_ELEMENT_", 1),
         "byol_unpack.element": ("BYOL_ELEMENT_", 1)}
# What cannot be called again and again: only the error struct of these is tried.
ENDS = {"byol_shutdown"}
INPUTS = ["byol_source", "byol_encoder_options", "byol_contract", "byol_runtime_options", "byol_extract_options",
          "byol_fit_options", "byol_search_options", "byol_image"]
REPORTS = ["byol_model_info", "byol_encoder_info", "byol_head_info", "byol_fit_report", "byol_metrics", "byol_image_info",
           "byol_runtime_stats", "byol_features_info", "byol_trainer_info"]


def uncommented(text):
    return re.sub(r"/\*.*?\*/", "", text, flags=re.S)


BY_VALUE = [f"struct byol_{handle}" for handle in HANDLES]


def functions():
    """(name, [(type, name)]) of every function that returns a status."""
    code = uncommented(HEADER)
    for match in re.finditer(r"BYOL_API\s+(BYOL_NODISCARD\s+)?byol_status\s+(byol_\w+)\((.*?)\);", code, re.S):
        parameters = []
        for text in match[3].split(","):
            text = " ".join(text.split())
            kind, name = re.match(r"(.*?)(\w+)$", text).groups()
            parameters.append((kind.strip(), name))
        yield match[2], parameters


def last_of(prefix):
    found = re.findall(rf"#define {prefix}\w+ (\d+)\n", HEADER)
    assert found, f"no constants {prefix}*"
    return max(map(int, found))


def choices(struct):
    """(field, wrong values) of a struct's fields that choose something, by their comments."""
    body = re.search(rf"typedef struct {struct} \{{(.*?)\n\}} {struct};", HEADER, re.S)[1]
    for comment, kind, name in re.findall(r"/\*\*(.*?)\*/\s*(\w+) (\w+)(?:\[\d+\])?;", body, re.S):
        if kind != "uint32_t":
            continue
        if prefix := re.match(r"\s*\*?\s*(BYOL_[A-Z]+_)\*", comment):
            yield name, [f"{last_of(prefix[1]) + 1}u", "INT32_MAX", "UINT32_MAX"]
        elif "Must be 0." in comment:
            yield name, ["1u", "INT32_MAX", "UINT32_MAX"]


def value(function, name, kind):
    if name == "token" and kind.endswith("*"):
        return "&out.token"
    for handle in HANDLES:
        if kind == f"struct byol_{handle} *":
            return f"&out.{member(handle)}"
    if name == "token" and function.startswith("byol_cancel_"):
        return "fixed.token"
    if kind in ("struct byol_features", "struct byol_trainer") or function.endswith("_close") and kind in BY_VALUE:
        return f"fixed.{member(kind.split('byol_')[1])}"
    if name == "features" and function in OUT_FEATURES:
        return "out.features"
    if match := re.match(r"(?:const )?struct (byol_(?:\w+_info|\w+_options|\w+_stats))\*?\s*\*?$", kind):
        place = "out" if match[1] in REPORTS else "in"
        return f"&{place}.{match[1][5:]}.s"
    found = VALUES.get(f"{function}.{name}", VALUES.get(name))
    if found is None:
        sys.exit(f"{function}: no value is known for its parameter {name} ({kind}); add one to tests/c/matrix.py")
    return found


def cases(function, parameters):
    """(parameter, name of the variant, preparation, the argument instead or None, expected or None for recorded)."""
    values = {name: value(function, name, kind) for kind, name in parameters}
    for kind, name in parameters:
        good, where = values[name], f"{function}.{name}"
        nullable = where not in NEEDED and (name in NULLABLE or where in NULLABLE)
        if function in ENDS and name != "error":
            continue
        null = None if where in RECORDED else "BYOL_OK" if nullable else "BYOL_E_NULL_POINTER"
        if kind in BY_VALUE:
            what = kind.split("byol_")[1]
            none = "BYOL_OK" if name == "token" and not function.startswith("byol_cancel_") else "BYOL_E_HANDLE"
            none = "BYOL_OK" if f"{function}.{name}" in OPTIONAL_HANDLES or function.endswith("_close") else none
            yield name, "0", "", f"(byol_{what}){{0}}", none
            yield name, "closed", "", f"closed.{member(what)}", "BYOL_E_HANDLE"
            other = "encoder" if what != "encoder" else "head"
            yield name, "wrong kind", "", f"(byol_{what}){{fixed.{other}.id}}", "BYOL_E_HANDLE"
            yield name, "all ones", "", f"(byol_{what}){{UINT64_MAX}}", "BYOL_E_HANDLE"
            yield name, "random", "LOOP", f"(byol_{what}){{random_id()}}", "BYOL_E_HANDLE"
        elif name == "error":
            if function not in ENDS:
                yield name, "NULL", "", "NULL", "BYOL_OK" if not function.endswith("_close") else None
            for size in ("0", "1", "(uint32_t)sizeof(byol_error) - 1", "70000", "UINT32_MAX"):
                yield name, f"struct_size {size}", f"bad_error.struct_size = {size};", "&bad_error", "BYOL_E_ABI"
            yield name, "misaligned", "", "(byol_error *)(void *)(odd + 1)", "BYOL_E_INVALID_ARG"
        elif match := re.match(r"(const )?struct (byol_\w+)\s*\*", kind):
            struct = match[2]
            yield name, "NULL", "", "NULL", null
            yield name, "misaligned", "", f"({kind})(void *)(odd + 1)", "BYOL_E_INVALID_ARG"
            if struct[5:] in HANDLES:
                continue
            target = "set.images[0]" if struct == "byol_image" else good.lstrip("&")
            for size in ("0", "1", f"(uint32_t)sizeof({struct}) - 1", "70000", "UINT32_MAX"):
                yield name, f"struct_size {size}", f"{target}.struct_size = {size};", None, "BYOL_E_ABI"
            if struct == "byol_image":
                yield name, "struct_size of one differs", "set.images[3].struct_size += 8;", None, "BYOL_E_ABI"
                target, structs = "set.images[0]", ["byol_image"]
            else:
                behind = target[:-2] + ".more"
                larger = f"{target}.struct_size += (uint32_t)sizeof {behind}; memset({behind}, 0, sizeof {behind});"
                yield name, "larger, zeros behind", larger, None, "BYOL_OK"
                if struct in INPUTS:
                    yield name, "larger, not zero behind", f"{larger} {behind}[7] = 1;", None, "BYOL_E_ABI"
            for inner, holder, prepare in [(struct, target, "")] + (
                [("byol_contract", "in.contract.s", "in.encoder_options.s.contract = &in.contract.s; ")]
                if struct == "byol_encoder_options" else []
            ):
                if inner not in INPUTS:
                    continue
                if inner == "byol_image":
                    # Else it would be one bad picture of a call that succeeds.
                    prepare = "statuses = NULL; "
                if inner != struct:
                    yield name, "contract struct_size 0", f"{prepare}{holder}.struct_size = 0;", None, "BYOL_E_ABI"
                for field, wrong in choices(inner):
                    for bad in wrong:
                        yield (name, f"{inner}.{field} {bad.rstrip('u')}", f"{prepare}{holder}.{field} = {bad};", None,
                               "BYOL_E_INVALID_ARG")
        elif "*" in kind or kind.endswith("_callback"):
            yield name, "NULL", "", "NULL", null
            if kind in ("const float *", "float *", "uint32_t *", "const uint32_t *", "double *", "uint64_t *", "size_t *",
                        "byol_status *", "const char *const *", "const uint8_t *const *", "const size_t *",
                        "const uint64_t *"):
                yield name, "misaligned", "", f"({kind})(void *)(odd + 1)", "BYOL_E_INVALID_ARG"
        elif where in ENUMS or name in ENUMS:
            prefix, _ = ENUMS.get(where) or ENUMS[name]
            for bad in (f"{last_of(prefix) + 1}u", "INT32_MAX", "UINT32_MAX"):
                yield name, bad.rstrip("u"), "", bad, "BYOL_E_INVALID_ARG"
        elif kind == "size_t":
            for bad in ("0", "1", "SIZE_MAX"):
                yield name, bad, "", bad, None
        elif kind == "uint32_t":
            for bad in ("0", "1", "INT32_MAX", "UINT32_MAX"):
                yield name, bad, "", bad, None
        elif kind == "uint64_t":
            yield name, "UINT64_MAX", "", "UINT64_MAX", None
        elif kind == "float":
            for bad in ("-1.0f", "NAN", "INFINITY"):
                yield name, bad, "", bad, None
        else:
            sys.exit(f"{function}: {kind} {name} is of a kind that tests/c/matrix.py does not know")


PROLOGUE = r"""/* Written by tests/c/matrix.py: do not edit. */
#include "check.h"

#include <math.h>

/* A struct, and room behind it for a later version's fields. */
#define GROWING(type) struct { type s; unsigned char more[16]; }

static struct pictures set, sound_set;
static const byol_runtime any = {0};
static const byol_cancel never = {0};
static struct {
    byol_runtime runtime; byol_encoder encoder; byol_head head; byol_cancel token; byol_features container;
    byol_trainer trainer;
} fixed, closed;
static struct {
@INPUTS@
    const char *head_path, *saved_path, *paths[1];
    const uint8_t *files[1], *head_bytes;
    size_t lengths[1], head_len;
    const char *features_path, *class_names[CLASSES], *row_names[COUNT];
    uint64_t ids[1];
    int8_t packed[COUNT * 64];
} in, sound_in;
static struct {
@REPORTS@
    byol_runtime runtime; byol_encoder encoder; byol_head head; byol_cancel token; byol_features container;
    byol_trainer trainer;
    float features[COUNT * 64], probabilities[COUNT * CLASSES], scales[COUNT], similarities[COUNT * COUNT];
    int8_t packed[COUNT * 64];
    uint32_t labels[COUNT], top[COUNT * 3], class_index;
    uint64_t ids[COUNT], examples;
    double temperature, tried[4 * BYOL_SEARCH_PENALTIES];
    size_t tried_count;
    byol_status item_status[COUNT];
    double per_class[3 * CLASSES];
    uint64_t confusion[CLASSES * CLASSES];
    char buffer[1 << 18];
} out, before;
static uint64_t aligned[32];
static unsigned char *odd = (unsigned char *)aligned;
static float rows[COUNT * 64];
static size_t dimension, needed;
static byol_status *statuses;
static byol_error bad_error;
static byol_error check_error;

static const double penalties[2] = {1e-2, 1e-3};

static uint64_t random_id(void)
{
    static uint64_t state = 88172645463325252u;
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}

/* A container and a trainer with the same rows each time, whatever the call before did to them. Ids begin with 1. */
static void renew(void)
{
    uint32_t class_index;
    (void)byol_features_close(fixed.container, NULL);
    (void)byol_trainer_close(fixed.trainer, NULL);
    MUST(byol_features_create(fixed.encoder, 0, &fixed.container, E));
    MUST(byol_features_append(fixed.container, rows, COUNT, dimension, 0, sound_set.labels, sound_in.row_names,
                              E));
    MUST(byol_features_set_classes(fixed.container, sound_in.class_names, CLASSES, E));
    MUST(byol_trainer_create(fixed.encoder, 0, &fixed.trainer, E));
    for (size_t i = 0; i < CLASSES; i++)
        MUST(byol_trainer_add_class(fixed.trainer, sound_in.class_names[i], &class_index, E));
    MUST(byol_trainer_add(fixed.trainer, rows, COUNT, dimension, 0, sound_set.labels, NULL, E));
}

/* Everything as it should be, outputs full of rubbish. */
static void prepare(void)
{
    renew();
    set = sound_set;
    in = sound_in;
    memset(&out, 0xa5, sizeof out);
    statuses = out.item_status;
@SIZES@
    bad_error = check_error = (byol_error)BYOL_ERROR_INIT;
}

/* Writes down what came back, and finds what must not be. `expected` -1: whatever was recorded. */
static void judge(const char *function, const char *parameter, const char *variant, byol_status status, byol_status expected)
{
    printf("%s %s %s: %s\n", function, parameter, variant, byol_status_name(status));
    if (expected >= 0 && status != expected) {
        fprintf(stderr, "%s, %s %s: %s, expected %s\n", function, parameter, variant, byol_status_name(status),
                byol_status_name(expected));
        check_failures++;
    }
    if (status != BYOL_OK && memcmp(&out, &before, sizeof out) != 0) {
        fprintf(stderr, "%s, %s %s: failed with %s, but wrote an output\n", function, parameter, variant,
                byol_status_name(status));
        check_failures++;
    }
    if (status == BYOL_E_PANIC || strcmp(byol_status_name(status), "BYOL_E_?") == 0) {
        fprintf(stderr, "%s, %s %s: %s\n", function, parameter, variant, byol_status_name(status));
        check_failures++;
    }
}
"""

MAIN = r"""
int main(int argc, char **argv)
{
    static unsigned char picture[2048];
    static char head_path[4096], saved_path[4096], picture_path[4096], features_path[4096];
    byol_error error = BYOL_ERROR_INIT;
    FILE *file;
    size_t i;
    if (argc != 4)
        return 2;
    pictures_make(&sound_set);
    snprintf(head_path, sizeof head_path, "%s/matrix-head.safetensors", argv[3]);
    snprintf(saved_path, sizeof saved_path, "%s/matrix-saved.safetensors", argv[3]);
    snprintf(picture_path, sizeof picture_path, "%s/matrix.bmp", argv[3]);
    snprintf(features_path, sizeof features_path, "%s/matrix-features.safetensors", argv[3]);
    /* A black BMP of SIDE x SIDE pixels of 8 bit, without a palette of its own size: 54 bytes, 4 of palette, pixels. */
    {
        static const unsigned char start[] = {'B', 'M', 0, 0, 0, 0, 0, 0, 0, 0, 58, 0, 0, 0, 40, 0, 0, 0, SIDE, 0, 0, 0, SIDE, 0,
                                              0, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0};
        memcpy(picture, start, sizeof start);
        sound_in.files[0] = picture, sound_in.lengths[0] = 58 + SIDE * SIDE;
        file = fopen(picture_path, "wb");
        if (!file || fwrite(picture, sound_in.lengths[0], 1, file) != 1 || fclose(file) != 0)
            return 1;
    }
    MUST(byol_runtime_create(NULL, &fixed.runtime, &error));
    MUST(byol_runtime_create(NULL, &closed.runtime, &error));
    fixed.encoder = encoder_open(argv[1]);
    closed.encoder = encoder_open(argv[1]);
    dimension = encoder_dimension(fixed.encoder);
    if (dimension > 64)
        return 1;
    MUST(byol_extract(fixed.encoder, sound_set.images, COUNT, NULL, rows, 0, COUNT * 64, NULL, never, &error));
    MUST(byol_head_fit(rows, COUNT, dimension, 0, sound_set.labels, NULL, CLASSES, fixed.encoder, NULL, NULL, NULL, never,
                       &fixed.head, NULL, &error));
    MUST(byol_head_save(fixed.head, head_path, &error));
    MUST(byol_head_load(head_path, &closed.head, &error));
    MUST(byol_cancel_create(0, &fixed.token, &error));
    MUST(byol_cancel_create(0, &closed.token, &error));
    MUST(byol_runtime_close(closed.runtime, &error));
    MUST(byol_encoder_close(closed.encoder, &error));
    MUST(byol_head_close(closed.head, &error));
    MUST(byol_cancel_close(closed.token, &error));
    sound_in.class_names[0] = "one", sound_in.class_names[1] = "two", sound_in.class_names[2] = "three";
    sound_in.class_names[3] = "four", sound_in.ids[0] = 1, sound_in.features_path = features_path;
    for (i = 0; i < COUNT; i++)
        sound_in.row_names[i] = "a picture";
    renew();
    MUST(byol_features_save(fixed.container, features_path, &error));
    closed.container = fixed.container, closed.trainer = fixed.trainer;
    MUST(byol_features_close(closed.container, &error));
    MUST(byol_trainer_close(closed.trainer, &error));
    fixed.container.id = fixed.trainer.id = 0;
    for (i = 0; i < sizeof aligned; i++)
        odd[i] = 0;
@INITS@
    sound_in.source.s.path = argv[1];
    sound_in.contract.s.channels = 1, sound_in.contract.s.height = sound_in.contract.s.width = SIDE;
    sound_in.contract.s.resize = BYOL_RESIZE_STRETCH, sound_in.contract.s.filter = BYOL_FILTER_BILINEAR;
    sound_in.contract.s.deviation[0] = 1;
    sound_in.head_path = head_path, sound_in.saved_path = saved_path, sound_in.paths[0] = picture_path;
    sound_in.head_bytes = file_read(head_path, &sound_in.head_len);
    sound_in.search_options.s.penalties = penalties, sound_in.search_options.s.penalties_len = 2;

    /* set.images points into the pictures of the set it was made for, which stay where they are. */
@CALLS@
    if (check_failures)
        return 1;
    byol_head_close(fixed.head, NULL);
    byol_encoder_close(fixed.encoder, NULL);
    byol_runtime_close(fixed.runtime, NULL);
    byol_cancel_close(fixed.token, NULL);
    byol_features_close(fixed.container, NULL);
    byol_trainer_close(fixed.trainer, NULL);
    if (byol_live_handles(BYOL_KIND_ANY) != 0) {
        fprintf(stderr, "%u handles are left open\n", (unsigned)byol_live_handles(BYOL_KIND_ANY));
        return 1;
    }
    return 0;
}
"""

FORKED = r"""
static atomic_int enough, wrong;

static void *extract_all_the_time(void *unused)
{
    float *features = malloc(sizeof rows);
    while (!enough) {
        if (byol_extract(fixed.encoder, sound_set.images, COUNT, NULL, features, 0, COUNT * 64, NULL, never, NULL) != BYOL_OK ||
            memcmp(features, rows, COUNT * dimension * sizeof *rows) != 0)
            wrong++;
    }
    free(features);
    return unused;
}

static void in_the_child(void)
{
    byol_status status;
@CHILD@
}

static void fork_while_working(void)
{
    const char *asked = getenv("BYOL_FORKS");
    const long times = asked ? strtol(asked, NULL, 10) : 20;
    pthread_t threads[8];
    /* Once, and not in a child, where nothing can be made. */
    renew();
    for (int i = 0; i < 8; i++)
        if (pthread_create(&threads[i], NULL, extract_all_the_time, NULL) != 0)
            exit(1);
    for (long i = 0; i < times; i++) {
        int status = -1;
        pid_t child = fork();
        if (child == 0) {
            /* Ends a child that waits for a thread it does not have. */
            alarm(30);
            in_the_child();
            _exit(check_failures != 0);
        }
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
            fprintf(stderr, "fork %ld: the child ended with status %x\n", i, (unsigned)status);
            check_failures++;
        }
    }
    enough = 1;
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    if (wrong != 0) {
        fprintf(stderr, "%d extractions were wrong\n", wrong);
        check_failures++;
    }
    printf("forked %ld times while 8 threads worked; each child called @COUNT@ functions\n", times);
}
"""


def call(function, parameters, parameter=None, argument=None):
    """The function's call, with one argument instead."""
    arguments = ", ".join(
        argument if name == parameter and argument is not None else value(function, name, kind) for kind, name in parameters)
    arguments = re.sub(r"\bE$", "&check_error", arguments)
    return f"{function}({arguments})"


def forked():
    lines = [f'    prepare(), before = out, status = {call(*function)};\n'
             f'    judge("{function[0]}", "-", "in a forked child", status, BYOL_E_FORKED);' for function in functions()]
    prologue = PROLOGUE.replace('#include "check.h"\n', '#define _DEFAULT_SOURCE\n#include "check.h"\n\n#include <pthread.h>\n'
                                '#include <stdatomic.h>\n#include <sys/wait.h>\n#include <unistd.h>\n')
    # The closed handles and the rest of the matrix are not needed here.
    prologue = prologue.replace('    printf("%s %s %s: %s\\n", function, parameter, variant, byol_status_name(status));\n', "")
    prologue = prologue.replace("    renew();\n    set = sound_set;\n", "    set = sound_set;\n")
    prologue = re.sub(r"static uint64_t random_id.*?\n}\n\n", "", prologue, flags=re.S)
    text = prologue + FORKED.replace("@CHILD@", "\n".join(lines)).replace("@COUNT@", str(len(lines))) + MAIN
    print(filled(text.replace("@CALLS@", "    fork_while_working();")))


def filled(text):
    fill = lambda names: "\n".join(f"    GROWING({name}) {name[5:]};" for name in names)
    inits = "\n".join(f"    byol_{n[5:]}_init(&sound_in.{n[5:]}.s, sizeof(byol_{n[5:]}));" for n in INPUTS)
    sizes = "\n".join(f"    out.{n[5:]}.s.struct_size = (uint32_t)sizeof(byol_{n[5:]});" for n in REPORTS)
    return (text.replace("@INPUTS@", fill(INPUTS)).replace("@REPORTS@", fill(REPORTS)).replace("@SIZES@", sizes)
            .replace("@INITS@", inits))


def main():
    groups, calls, count = [], [], 0
    for function, parameters in functions():
        lines = [f"static void {function[5:]}_matrix(void)", "{", "    byol_status status;"]
        closes = [f"    if (status == BYOL_OK) (void)byol_{h}_close(out.{member(h)}, NULL);"
                  for kind, name in parameters for h in HANDLES if kind == f"struct byol_{h} *"]
        base = [("-", "as it should be", "", None, "BYOL_OK")]
        if function in ENDS or function.endswith("_close"):
            base = []
        for parameter, variant, preparation, argument, expected in base + list(cases(function, parameters)):
            loop = preparation == "LOOP"
            if function.endswith("_close") and parameter == "error" and variant == "NULL":
                continue
            calling = call(function, parameters, parameter, argument)
            body = f"{{ prepare(); {'' if loop else preparation} before = out; status = {calling};"
            body += f' judge("{function}", "{parameter}", "{variant}", status, {expected or -1});'
            body += "".join(c.strip() for c in closes) + " }"
            lines.append(f"    for (int i = 0; i < 64; i++) {body}" if loop else f"    {body}")
            count += 1
        lines += ["}", ""]
        groups.append("\n".join(lines))
        calls.append(f"    {function[5:]}_matrix();")
    print(filled(PROLOGUE + "\n" + "\n".join(groups) + MAIN.replace("@CALLS@", "\n".join(calls))))
    print(f"{count} cases", file=sys.stderr)


if sys.argv[1:] == ["forked"]:
    forked()
else:
    main()
