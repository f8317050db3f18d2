//! libbyol as C sees it: the library's symbols and name, the layout of every struct, and the programs of tests/c.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::mem::{offset_of, size_of};
use std::path::{Path, PathBuf};
use std::process::Command;

mod support;

use support::{library, root};

/// Where cargo put libbyol.so for this test: beside it.
fn libbyol() -> PathBuf {
    let folder = std::env::current_exe().expect("a test").parent().expect("a folder").to_path_buf();
    let file = folder.join("libbyol.so");
    assert!(file.exists(), "{} is missing", file.display());
    file
}

fn output(program: &str, arguments: &[&Path]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The header without its comments.
fn header() -> String {
    let text = fs::read_to_string(root().join("include/byol.h")).expect("include/byol.h");
    let mut code = String::new();
    let mut rest = text.as_str();
    while let Some((before, comment)) = rest.split_once("/*") {
        code.push_str(before);
        rest = comment.split_once("*/").expect("the end of a comment").1;
    }
    code + rest
}

/// The functions that the header declares.
fn declared() -> BTreeSet<String> {
    let header = header();
    let parts = header.split("BYOL_API").skip(1).filter(|part| part.contains('('));
    let names = parts.filter_map(|part| part.split_once('(')?.0.split([' ', '\n', '*']).next_back());
    names.filter(|name| name.starts_with("byol_")).map(str::to_owned).collect()
}

#[test]
fn the_library_exports_the_functions_of_the_header_and_nothing_else() {
    let symbols = output("nm", &[Path::new("-D"), Path::new("--defined-only"), &libbyol()]);
    let exported: BTreeSet<String> =
        symbols.lines().filter_map(|line| line.split(' ').nth(2)).map(str::to_owned).collect();
    assert_eq!(exported, declared());
    assert!(exported.len() > 40, "{exported:?}");
}

#[test]
fn the_header_for_cpp_covers_every_function() {
    let hpp = fs::read_to_string(root().join("include/byol.hpp")).expect("include/byol.hpp");
    for name in declared() {
        let closes = name.ends_with("_close") && hpp.contains(&format!(", {name}>"));
        assert!(closes || hpp.contains(&format!("{name}(")), "byol.hpp does not offer {name}");
    }
}

#[test]
fn the_library_has_its_soname_stays_loaded_and_needs_only_the_system() {
    let dynamic = output("readelf", &[Path::new("-d"), &libbyol()]);
    assert!(dynamic.contains("Library soname: [libbyol.so.0]"), "{dynamic}");
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
    assert!(!dynamic.contains("RPATH") && !dynamic.contains("RUNPATH"), "{dynamic}");
    for line in dynamic.lines().filter(|line| line.contains("(NEEDED)")) {
        let name = line.split_once('[').expect("a name").1.trim_end_matches(']');
        let system = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"];
        assert!(system.contains(&name), "libbyol.so needs {name}");
    }
}

/// The C library that it must find, as docs/c-guide.md promises: whatever is newer must not have been linked.
#[test]
fn the_library_runs_where_glibc_is_2_34() {
    let versions = output("readelf", &[Path::new("--version-info"), &libbyol()]);
    let number = |text: &str| -> Option<(u32, u32)> {
        let (major, minor) = text.split([' ', '.', '(', ')']).next().zip(text.split('.').nth(1))?;
        Some((major.parse().ok()?, minor.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?))
    };
    let needed = versions.split("GLIBC_").skip(1).filter_map(number).max().expect("versions of glibc");
    println!("libbyol.so needs glibc {}.{}", needed.0, needed.1);
    assert!(needed <= (2, 34), "glibc {}.{}", needed.0, needed.1);
    assert!(needed >= (2, 17), "these are not all versions: {versions}");
}

#[test]
fn the_stripped_library_is_smaller_than_6_megabytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let stripped = folder.path().join("libbyol.so");
    output("strip", &[Path::new("--strip-unneeded"), Path::new("-o"), &stripped, &libbyol()]);
    let bytes = fs::metadata(&stripped).expect("a file").len();
    println!("libbyol.so, stripped: {bytes} bytes");
    assert!(bytes < 6_000_000, "{bytes} bytes");
}

#[test]
fn every_function_is_misused_by_a_test() {
    let misuse = fs::read_to_string(root().join("tests/c/misuse.c")).expect("misuse.c");
    let init = fs::read_to_string(root().join("tests/c/init.c")).expect("init.c");
    // Generated, with every parameter of every function that returns a status.
    let matrix = fs::read_to_string(root().join("tests/c/matrix.expected")).expect("matrix.expected");
    // What can't be misused: no pointer, no handle, any number.
    let harmless = ["byol_version", "byol_version_string"];
    for name in declared() {
        let used = misuse.contains(&format!("{name}("))
            || matrix.lines().any(|line| line.split(' ').next() == Some(&name))
            || name.ends_with("_init") && init.contains(&name);
        assert!(used || harmless.contains(&name.as_str()), "{name} is in neither misuse.c, matrix.expected nor init.c");
    }
}

/// A struct's name, its size, and its fields with their offsets.
type Layout = (&'static str, usize, Vec<(&'static str, usize)>);

/// Size and offsets of structs as this side sees them.
macro_rules! layout {
    ($($module:ident :: $name:ident { $($field:ident),+ $(,)? })+) => {
        vec![$((
            stringify!($name),
            size_of::<byol::$module::$name>(),
            vec![$((stringify!($field), offset_of!(byol::$module::$name, $field))),+],
        )),+]
    };
}

#[test]
fn every_struct_has_the_same_layout_in_c_and_in_rust() {
    let structs: Vec<Layout> = layout! {
        status::byol_error { struct_size, code, runtime_code, item_index, message_len, message }
        cancel::byol_cancel { id }
        runtime::byol_runtime { id }
        runtime::byol_runtime_options { struct_size, threads, library, max_memory }
        runtime::byol_runtime_stats {
            struct_size, threads, calls, failures, pictures, held_bytes, held_peak, max_memory, resident_bytes,
            resident_peak
        }
        model::byol_source { struct_size, flags, path, data, data_len, sha256, read, user }
        model::byol_model_info {
            struct_size, input_type, channels, height, width, dimension, has_contract, has_external_data, nodes, opset,
            sha256, producer, input_name, output_name
        }
        encoder::byol_encoder { id }
        encoder::byol_contract {
            struct_size, channels, height, width, resize, resize_size, filter, flags, mean, deviation
        }
        encoder::byol_encoder_options {
            struct_size, sessions, max_model_bytes, max_image_pixels, max_image_bytes, contract, output
        }
        encoder::byol_encoder_info {
            struct_size, dimension, sessions, threads, channels, height, width, resize, resize_size, filter, mean,
            deviation, sha256
        }
        image::byol_image {
            struct_size, format, width, height, stride, data, data_len, alpha, orientation, region_x, region_y,
            region_width, region_height
        }
        image::byol_image_info { struct_size, width, height, channels, bits, has_alpha, orientation, format }
        extract::byol_extract_options { struct_size, flags, element, reserved, packed, packed_len, scales }
        features::byol_features { id }
        features::byol_features_info {
            struct_size, dimension, rows, classes, has_labels, has_names, has_encoder, encoder_sha256
        }
        trainer::byol_trainer { id }
        trainer::byol_trainer_info { struct_size, dimension, examples, classes, is_fitted, encoder_sha256 }
        trainer::byol_search_options {
            struct_size, folds, patience, reserved, held_out, seed, penalties, penalties_len
        }
        head::byol_head { id }
        head::byol_head_info {
            struct_size, classes, dimension, converged, examples, l2, encoder_sha256, temperature
        }
        fit::byol_fit_options {
            struct_size, max_iterations, l2, tolerance, threads, standardize, class_weights, sample_weights,
            class_weights_len
        }
        fit::byol_fit_report { struct_size, converged, iterations, passes, objective, gap, l2, seconds }
        evaluate::byol_metrics {
            struct_size, classes, examples, top1, top5, balanced, log_loss, calibration_error, top1_low, top1_high
        }
    };

    // The list above is all there is in the header, field by field.
    let header = header();
    let in_header: BTreeSet<(String, Vec<String>)> = header
        .split("typedef struct ")
        .skip(1)
        .map(|part| {
            let (name, body) = part.split_once(" {").expect("a body");
            let fields = body.split_once('}').expect("its end").0.split(';').filter_map(|field| {
                let name = field.trim().rsplit([' ', '*']).next()?.split('[').next()?;
                (!name.is_empty()).then(|| name.to_owned())
            });
            (name.to_owned(), fields.collect())
        })
        .collect();
    let listed = structs.iter().map(|(name, _, fields)| {
        ((*name).to_owned(), fields.iter().map(|(field, _)| (*field).to_owned()).collect::<Vec<_>>())
    });
    assert_eq!(in_header, listed.collect());

    let mut source = String::from("#include <byol.h>\n");
    for (name, size, fields) in &structs {
        writeln!(source, "_Static_assert(sizeof({name}) == {size}, \"{name}\");").expect("a string");
        let mut end = Vec::new();
        for (field, offset) in fields {
            writeln!(source, "_Static_assert(offsetof({name}, {field}) == {offset}, \"{name}.{field}\");")
                .expect("a string");
            end.push(format!("sizeof((({name} *)0)->{field})"));
        }
        // No padding, whose bytes nobody sets: a struct of a later version may use them.
        writeln!(source, "_Static_assert({} == {size}, \"padding in {name}\");", end.join(" + ")).expect("a string");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("layout.c");
    fs::write(&file, source).expect("a source");
    output("cc", &[Path::new("-std=c11"), Path::new("-fsyntax-only"), Path::new("-I"), &root().join("include"), &file]);
}

#[test]
fn the_programs_in_c_pass() {
    library();
    let test = Command::new("sh")
        .arg(root().join("tests/c/run.sh"))
        .env("BYOL_LIB", libbyol().parent().expect("a folder"))
        // The rest takes longer: tests/c/run.sh runs all of them.
        .env("BYOL_ONLY", "flow fork init matrix misuse picture teach threads")
        .env("BYOL_COMMAND", env!("CARGO_BIN_EXE_byol"))
        .env("BYOL_OUT", Path::new(env!("CARGO_TARGET_TMPDIR")).join("c"))
        .output()
        .expect("sh");
    let text = String::from_utf8_lossy(&test.stdout).into_owned() + &String::from_utf8_lossy(&test.stderr);
    assert!(test.status.success(), "{text}");
    println!("{text}");
}
