//! include/byol.h is what src/ffi says, and compiles everywhere without a warning.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The files of src/ffi that hold something for C, in the order of the header.
const SOURCES: [&str; 19] = [
    "status", "library", "log", "handle", "cancel", "runtime", "model", "encoder", "image", "extract", "packed",
    "head", "ranking", "weights", "export", "fit", "evaluate", "features", "trainer",
];

const WARNINGS: [&str; 8] =
    ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wundef", "-Wshadow", "-Wcast-qual", "-Werror"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn generated() -> String {
    let ffi = root().join("src/ffi");
    let config = fs::read_to_string(ffi.join("cbindgen.toml")).expect("cbindgen.toml");
    let config = config
        .replace("@MAJOR@", env!("CARGO_PKG_VERSION_MAJOR"))
        .replace("@MINOR@", env!("CARGO_PKG_VERSION_MINOR"))
        .replace("@PATCH@", env!("CARGO_PKG_VERSION_PATCH"));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cbindgen.toml");
    fs::write(&path, config).expect("a configuration");
    let config = cbindgen::Config::from_file(path).expect("a valid configuration");
    let builder = SOURCES.iter().fold(cbindgen::Builder::new().with_config(config), |builder, name| {
        builder.with_src(ffi.join(format!("{name}.rs")))
    });
    let mut text = Vec::new();
    builder.generate().expect("a header").write(&mut text);
    String::from_utf8(text).expect("UTF-8")
}

#[test]
fn the_header_is_what_the_crate_says() {
    let path = root().join("include/byol.h");
    let generated = generated();
    if std::env::var_os("BYOL_BLESS").is_some() {
        fs::write(&path, &generated).expect("include/byol.h can be written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == generated, "include/byol.h is out of date: run `BYOL_BLESS=1 cargo test --test header`");
}

#[test]
fn every_exported_function_is_in_the_header_and_says_who_may_call_it_when() {
    let header = generated();
    let mut functions = 0;
    for file in fs::read_dir(root().join("src/ffi")).expect("src/ffi") {
        let file = file.expect("an entry").path();
        if file.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let source = fs::read_to_string(&file).expect("a source");
        for part in source.split("#[unsafe(no_mangle)]").skip(1) {
            let name = part.split_once("fn ").and_then(|(_, rest)| rest.split_once('(')).expect("a function").0;
            let declared =
                |at: &usize| header[..*at].rsplit_once("*/").is_some_and(|(_, code)| code.contains("BYOL_API"));
            let call = format!("{name}(");
            let mut found = header.match_indices(&call).map(|(at, _)| at);
            let at = found.find(declared).unwrap_or_else(|| panic!("{name} is not declared"));
            let comment = header[..at].rsplit_once("/**").expect("a comment").1;
            for word in ["Ownership:", "Threads:", "Errors:", "@since"] {
                assert!(comment.contains(word), "{name}: its comment has no {word:?}");
            }
            functions += 1;
        }
    }
    assert!(functions > 40, "{functions} functions");
}

#[test]
fn the_header_has_no_type_whose_size_or_meaning_differs_between_compilers() {
    let header = generated();
    let mut code = String::new();
    let mut rest = header.as_str();
    while let Some((before, comment)) = rest.split_once("/*") {
        code.push_str(before);
        rest = comment.split_once("*/").expect("the end of a comment").1;
    }
    code.push_str(rest);
    for word in code.split(|c: char| !c.is_alphanumeric() && c != '_') {
        assert!(!["bool", "_Bool", "enum", "long", "short", "unsigned", "wchar_t", "union"].contains(&word), "{word}");
    }
}

#[test]
fn the_header_compiles_alone_and_twice_in_every_standard_of_c_and_cpp() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a source");
        path
    };
    let body = "byol_error probe_error = BYOL_ERROR_INIT;\nbyol_runtime_options probe_runtime = BYOL_RUNTIME_OPTIONS_INIT;\n\
                byol_source probe_source = BYOL_SOURCE_INIT;\nbyol_model_info probe_model = BYOL_MODEL_INFO_INIT;\n\
                byol_contract probe_contract = BYOL_CONTRACT_INIT;\nbyol_encoder_options probe_o = BYOL_ENCODER_OPTIONS_INIT;\n\
                byol_encoder_info probe_i = BYOL_ENCODER_INFO_INIT;\nbyol_image probe_image = BYOL_IMAGE_INIT;\n\
                byol_extract_options probe_x = BYOL_EXTRACT_OPTIONS_INIT;\nbyol_fit_options probe_f = BYOL_FIT_OPTIONS_INIT;\n\
                byol_fit_report probe_r = BYOL_FIT_REPORT_INIT;\nbyol_head_info probe_h = BYOL_HEAD_INFO_INIT;\n\
                byol_metrics probe_m = BYOL_METRICS_INIT;\nbyol_runtime_stats probe_s = BYOL_RUNTIME_STATS_INIT;\n\
                byol_image_info probe_ii = BYOL_IMAGE_INFO_INIT;\nbyol_features_info probe_fi = BYOL_FEATURES_INFO_INIT;\n\
                byol_trainer_info probe_t = BYOL_TRAINER_INFO_INIT;\n\
                byol_search_options probe_so = BYOL_SEARCH_OPTIONS_INIT;\n\
                #if BYOL_VERSION_NUMBER < 1000\n#error \"version\"\n#endif\n";
    let alone = format!("#include \"byol.h\"\n{body}");
    let twice = format!("#include \"byol.h\"\n#include \"byol.h\"\n{body}");
    let c = [write("alone.c", &alone), write("twice.c", &twice)];
    let cpp = [write("alone.cc", &alone), write("twice.cc", &twice)];
    let units = [
        write("first.c", &alone),
        write(
            "second.c",
            "#include \"byol.h\"\nunsigned version(void);\nunsigned version(void) { return byol_version(); }\n",
        ),
    ];
    let include = root().join("include");
    let check = |compiler: &str, standard: &str, extra: &[&str], file: &PathBuf| {
        let output = Command::new(compiler)
            .arg(format!("-std={standard}"))
            .args(WARNINGS)
            .args(extra)
            .arg("-fsyntax-only")
            .arg("-I")
            .arg(&include)
            .arg(file)
            .output()
            .unwrap_or_else(|e| panic!("{compiler}: {e}"));
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && message.is_empty(), "{compiler} -std={standard}: {message}");
    };
    let mut compilers = vec![("gcc", "g++")];
    // CI installs it; a developer may do without.
    if Command::new("clang").arg("--version").output().is_ok() || std::env::var_os("CI").is_some() {
        compilers.push(("clang", "clang++"));
    }
    for (cc, cxx) in compilers {
        // Two translation units in one program: nothing is defined twice.
        let mut link = Command::new(cc);
        link.args(["-std=c99", "-r", "-nostdlib"]).args(WARNINGS).arg("-I").arg(&include).args(&units);
        let output = link.arg("-o").arg(folder.path().join("both.o")).output().unwrap_or_else(|e| panic!("{cc}: {e}"));
        assert!(output.status.success(), "{cc}: {}", String::from_utf8_lossy(&output.stderr));
        for file in &c {
            for standard in ["c99", "c11", "c17", "c2x"] {
                check(cc, standard, &["-Wstrict-prototypes", "-Wmissing-field-initializers"], file);
            }
        }
        for file in &cpp {
            for standard in ["c++11", "c++14", "c++17", "c++20", "c++2b"] {
                check(cxx, standard, &[], file);
            }
        }
    }
}
