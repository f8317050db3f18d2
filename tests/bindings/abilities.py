"""Which ability exists in which language, found in the sources: the table in README.md between its two markers.

usage: python3 tests/bindings/abilities.py [--write]

Fails where an ability is missing in a language, where a function of byol.h belongs to no ability, and where the README's
table is another one; --write writes it there.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BEGIN, END = "<!-- abilities: written by tests/bindings/abilities.py --write -->", "<!-- end of abilities -->"

# Ability: functions of byol.h; then, for C++, Go, Swift and Rust, what a caller writes. A name is looked for as a
# declaration of that language; after a colon stands the type that it must belong to.
ABILITIES = {
    "open a model": ("byol_encoder_open", "encoder:open", "OpenEncoder", "ImageEncoder:init", "Encoder:open"),
    "model in memory": ("byol_source_init", "source:memory", "Bytes", "Source:bytes", "Encoder:from_bytes"),
    "model from a function": ("byol_source_init", "source:reader", "Reader", "Source:reader", "Encoder:from_bytes"),
    "inspect without opening": ("byol_model_inspect", "inspect", "Inspect", "Source:inspect", "inspect"),
    "contract of one's own": ("byol_contract_init", "byol_encoder_options", "Contract", "Contract", "InputContract"),
    "what an encoder is": ("byol_encoder_get_info", "encoder:info", "Encoder:Info", "ImageEncoder:info", "Encoder:dimension"),
    "model metadata": (
        "byol_encoder_get_metadata byol_encoder_get_metadata_key", "encoder:metadata", "Encoder:Metadata",
        "ImageEncoder:metadata", "Encoder:metadata"),
    "features of pixels": ("byol_extract", "encoder:extract", "Encoder:Extract", "ImageEncoder:extract", "Encoder:extract"),
    "features of files' bytes": (
        "byol_extract_encoded", "encoder:extract_encoded", "Encoder:ExtractEncoded", "ImageEncoder:extract(encoded",
        "Encoder:extract_encoded"),
    "features of files": (
        "byol_extract_files", "encoder:extract_files", "Encoder:ExtractFiles", "ImageEncoder:extract(files",
        "Encoder:extract_files"),
    "features of tensors": (
        "byol_extract_tensor", "encoder:extract_tensor", "Encoder:ExtractPixels", "ImageEncoder:extract(pixels",
        "Encoder:extract_tensor"),
    "the language's own pictures": (
        "byol_image_init", "image", "Encoder:ExtractImages", "Picture:init", "PictureView"),
    "fit a head": ("byol_head_fit", "head:fit", "Fit", "Head:fit", "Head:fit"),
    "progress of a fit": ("byol_fit_options_init", "fit_progress", "FitProgress", "Head:fitting", "Progress"),
    "how a fit went": ("byol_fit_report_init", "byol_fit_report", "FitReport", "FitReport", "FitReport"),
    "cancel, deadline": (
        "byol_cancel_create byol_cancel_trigger byol_cancel_reset byol_cancel_close", "cancel:create", "watch",
        "Cancellation:cancel", "Cancel:trigger"),
    "classes, probabilities": ("byol_head_predict", "head:predict", "Head:Predict", "Head:predict", "Head:predict"),
    "scores": ("byol_head_logits", "head:logits", "Head:Logits", "Head:logits", "Head:logits"),
    "pictures to classes": (
        "byol_head_classify", "head:classify", "Head:Classify", "Head:classify", "Head:predict"),
    "metrics, confusion": (
        "byol_head_evaluate byol_metrics_init", "head:evaluate", "Head:Evaluate", "Head:evaluate", "Head:evaluate"),
    "nearest neighbours": ("byol_knn_predict", "knn_predict", "KNN", "Neighbours:predict", "knn"),
    "save and load a head": (
        "byol_head_save byol_head_load", "head:save", "Head:Save", "Head:save", "Head:save"),
    "a head as bytes": (
        "byol_head_save_bytes byol_head_load_bytes", "head:load", "Head:MarshalBinary", "Head:data", "Head:to_bytes"),
    "what a head is": (
        "byol_head_get_info byol_head_get_label byol_head_info_init", "head:info", "Head:Info", "Head:info", "Head:classes"),
    "head belongs to encoder": ("byol_head_check", "head:check", "Head:Check", "Head:check", "Head:check_encoder"),
    "settings of ONNX Runtime": (
        "byol_runtime_create byol_runtime_options_init", "runtime:create", "StartRuntime", "Runtime:init", "Runtime:open"),
    "close early": (
        "byol_encoder_close byol_head_close byol_runtime_close", "handle:close", "Encoder:Close", "ImageEncoder:close", None),
    "errors with codes": (
        "byol_status_name byol_status_is_retryable byol_error_init", "error", "Error", "ByolError", "Error"),
    "log": ("byol_set_log_sink", "set_log_sink", "SetLog", "Library:setLog", None),
    "versions": (
        "byol_version byol_version_string byol_abi_check byol_build_info", "build_info", "BuildInfo", "Library:buildInfo",
        "Runtime:version"),
    "header of a picture": ("byol_image_probe", "probe", "Probe", "PictureInfo", "Picture:probe"),
    "features in fewer bytes": ("byol_pack byol_unpack", "pack", "Pack", "PackedFeatures", "to_i8"),
    "container of features": (
        "byol_features_append byol_features_create byol_features_set_classes byol_features_get_info byol_features_get_rows "
        "byol_features_get_name byol_features_get_class byol_features_close", "features:append", "Features:Append",
        "Features:append", "Features:append"),
    "a container in files": (
        "byol_features_save byol_features_load", "features:save", "Features:Save", "Features:save", "Features:save"),
    "similarity, nearest rows": (
        "byol_features_nearest byol_features_similarity", "features:nearest", "Features:Nearest", "Features:nearest",
        "neighbours"),
    "trainer: classes, examples": (
        "byol_trainer_add byol_trainer_create byol_trainer_add_class byol_trainer_get_class byol_trainer_get_info "
        "byol_trainer_close", "trainer:add", "Trainer:Add", "Trainer:add", "Trainer:add"),
    "trainer: pictures": (
        "byol_trainer_add_files byol_trainer_add_images byol_trainer_add_encoded", "trainer:add_files", "Trainer:AddFiles",
        "Trainer:add(files", None),
    "trainer: change of mind": (
        "byol_trainer_relabel byol_trainer_remove byol_trainer_remove_class", "trainer:relabel", "Trainer:Relabel",
        "Trainer:relabel", "Trainer:relabel"),
    "trainer: examples kept": (
        "byol_trainer_get_features byol_trainer_add_features", "trainer:features", "Trainer:Features", "Trainer:features",
        "Trainer:features"),
    "trainer: fit, and again": (
        "byol_trainer_refit byol_trainer_fit", "trainer:refit", "Trainer:Refit", "Trainer:refit", "Trainer:refit"),
    "trainer: best penalty": (
        "byol_trainer_search", "trainer:search", "Trainer:Search", "Trainer:search", "Trainer:search"),
    "trainer: without a fit": (
        "byol_trainer_imprint", "trainer:imprint", "Trainer:Imprint", "Trainer:imprint", "Trainer:imprint"),
    "fit a head again": ("byol_head_refit", "head:refit", "Head:Refit", "Head:refit", "Head:refit"),
    "best classes, or none": ("byol_head_top_k", "head:top_k", "Head:TopK", "Head:top", "Head:top_k"),
    "weights in and out": (
        "byol_head_create byol_head_get_weights byol_head_clone", "head:create", "NewHead", "Head:weights", "Head:from_parts"),
    "calibrate a head": (
        "byol_head_calibrate", "head:calibrate", "Head:Calibrate", "Head:calibrated", "Head:calibrate"),
    "a head as ONNX": (
        "byol_head_export_onnx byol_head_export_onnx_bytes", "head:export_onnx", "Head:ExportONNX", "Head:exportONNX",
        "Head:to_onnx"),
    "what is done and held": (
        "byol_runtime_get_stats byol_runtime_trim", "runtime_stats", "Stats", "Runtime:stats", None),
    "open handles, end": ("byol_live_handles byol_shutdown", "live_handles", "LiveHandles", "Library:liveHandles", None),
}
# Where Rust needs no function of its own, it says what it has instead.
RUST = {"close early": "drop", "log": "errors carry all", "open handles, end": "drop",
        "trainer: pictures": "`Encoder::extract_files`, then `Trainer::add`", "what is done and held": "the allocator's own"}
# The init functions of structs that belong to a function listed above.
PARTS = re.compile(r"byol_(source|image|contract|\w+_options|\w+_info|\w+_stats)_init")


def sources(pattern):
    return "\n".join(path.read_text() for path in sorted(ROOT.glob(pattern)))


def cpp(text, owner, name):
    if owner:
        body = re.search(rf"\nclass {owner}\b.*?\n}};", text, re.S) or re.search(rf"\n(template.*)?\s*class {owner}\b.*?\n}};", text, re.S)
        return bool(body and re.search(rf"\b{name}\(", body.group()))
    return bool(re.search(rf"\b{name}\b", text))


def go(text, owner, name):
    if owner:
        return bool(re.search(rf"^func \(\w+ \*?{owner}\) {name}\(", text, re.M))
    return bool(re.search(rf"^(func|type) {name}\b", text, re.M))


def swift(text, owner, name):
    name, _, label = name.partition("(")
    if not owner:
        return bool(re.search(rf"^public (struct|final class|enum) {name}\b", text, re.M))
    what = rf"init\(" if name == "init" else rf"func {name}\({label}"
    bodies = re.findall(rf"^(?:public )?(?:final class|struct|enum|extension) {owner}\b.*?^}}", text, re.M | re.S)
    bodies += re.findall(rf"^    (?:public )?extension {owner}\b.*?^    }}", text, re.M | re.S)
    return any(re.search(rf"public (static |convenience )*{what}", body) for body in bodies)


def rust(text, owner, name):
    if owner:
        bodies = re.findall(rf"^impl(?:<[^>]*>)? {owner}\b.*?^}}", text, re.M | re.S)
        return any(re.search(rf"pub fn {name}\b", body) for body in bodies)
    return bool(re.search(rf"pub (fn|struct|enum) {name}\b", text))


LANGUAGES = [
    ("C++", cpp, "include/byol.hpp", "byol::"), ("Go", go, "bindings/go/*.go", "byol."),
    ("Swift", swift, "bindings/swift/Sources/Byol/*.swift", ""), ("Rust", rust, "src/{}/*.rs", ""),
]


def main():
    header = re.sub(r"/\*.*?\*/", "", (ROOT / "include/byol.h").read_text(), flags=re.S)
    functions = set(re.findall(r"BYOL_API.*?\b(byol_\w+)\(", header, re.S))
    texts = {}
    for language, _, pattern, _ in LANGUAGES:
        texts[language] = sources("src/serve/*.rs") + sources("src/model/*.rs") if language == "Rust" else sources(pattern)
    wrong, used = [], set()
    lines = [BEGIN, "", "| ability | C | C++ | Go | Swift | Rust |", "|---|---|---|---|---|---|"]
    for ability, (c, *others) in ABILITIES.items():
        for function in c.split():
            used.add(function)
            if function not in functions:
                wrong.append(f"{ability}: byol.h has no {function}")
        cells = [f"`{c.split()[0]}`"]
        for (language, find, _, _), wanted in zip(LANGUAGES, others):
            if wanted is None:
                cells.append(RUST[ability])
                continue
            owner, _, name = wanted.rpartition(":")
            if not find(texts[language], owner, name):
                wrong.append(f"{ability}: {language} has no {wanted}")
            shown = {"C++": "::", "Rust": "::"}.get(language, ".").join(filter(None, [owner, name.replace("(", "(")]))
            cells.append(f"`{shown}{':)' if '(' in name else ''}`")
        lines.append(f"| {ability} | " + " | ".join(cells) + " |")
    lines += ["", END]
    for function in sorted(functions - used):
        if not PARTS.fullmatch(function):
            wrong.append(f"{function} belongs to no ability: add it to {pathlib.Path(__file__).name}")
    if any("| |" in line or "|  |" in line for line in lines):
        wrong.append("the table has an empty cell")
    readme = ROOT / "README.md"
    text, table = readme.read_text(), "\n".join(lines)
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    if not rest:
        wrong.append(f"README.md has no line {BEGIN}")
    elif "--write" in sys.argv[1:]:
        readme.write_text(before + table + after)
    elif text != before + table + after:
        wrong.append("README.md has another table: python3 tests/bindings/abilities.py --write")
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"abilities: {len(ABILITIES)} in five languages, {len(functions)} functions of byol.h")


if __name__ == "__main__":
    main()
