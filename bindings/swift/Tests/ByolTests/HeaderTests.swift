import CByol
import Foundation
import Testing

@testable import Byol

/// What the header has, all of it: structs that lie as C has them, functions and codes that are bound.
struct HeaderTests {
    /// The header's structs as Swift sees them: size, and offsets of fields.
    private let structs: [String: (size: Int, offsets: [String: Int?])] = [
        "byol_error": (
            MemoryLayout<byol_error>.size,
            [
                "struct_size": MemoryLayout<byol_error>.offset(of: \.struct_size),
                "code": MemoryLayout<byol_error>.offset(of: \.code),
                "runtime_code": MemoryLayout<byol_error>.offset(of: \.runtime_code),
                "item_index": MemoryLayout<byol_error>.offset(of: \.item_index),
                "message_len": MemoryLayout<byol_error>.offset(of: \.message_len),
                "message": MemoryLayout<byol_error>.offset(of: \.message),
            ]
        ),
        "byol_cancel": (
            MemoryLayout<byol_cancel>.size,
            [
                "id": MemoryLayout<byol_cancel>.offset(of: \.id)
            ]
        ),
        "byol_runtime_options": (
            MemoryLayout<byol_runtime_options>.size,
            [
                "struct_size": MemoryLayout<byol_runtime_options>.offset(of: \.struct_size),
                "threads": MemoryLayout<byol_runtime_options>.offset(of: \.threads),
                "library": MemoryLayout<byol_runtime_options>.offset(of: \.library),
                "max_memory": MemoryLayout<byol_runtime_options>.offset(of: \.max_memory),
            ]
        ),
        "byol_runtime": (
            MemoryLayout<byol_runtime>.size,
            [
                "id": MemoryLayout<byol_runtime>.offset(of: \.id)
            ]
        ),
        "byol_runtime_stats": (
            MemoryLayout<byol_runtime_stats>.size,
            [
                "struct_size": MemoryLayout<byol_runtime_stats>.offset(of: \.struct_size),
                "threads": MemoryLayout<byol_runtime_stats>.offset(of: \.threads),
                "calls": MemoryLayout<byol_runtime_stats>.offset(of: \.calls),
                "failures": MemoryLayout<byol_runtime_stats>.offset(of: \.failures),
                "pictures": MemoryLayout<byol_runtime_stats>.offset(of: \.pictures),
                "held_bytes": MemoryLayout<byol_runtime_stats>.offset(of: \.held_bytes),
                "held_peak": MemoryLayout<byol_runtime_stats>.offset(of: \.held_peak),
                "max_memory": MemoryLayout<byol_runtime_stats>.offset(of: \.max_memory),
                "resident_bytes": MemoryLayout<byol_runtime_stats>.offset(of: \.resident_bytes),
                "resident_peak": MemoryLayout<byol_runtime_stats>.offset(of: \.resident_peak),
            ]
        ),
        "byol_source": (
            MemoryLayout<byol_source>.size,
            [
                "struct_size": MemoryLayout<byol_source>.offset(of: \.struct_size),
                "flags": MemoryLayout<byol_source>.offset(of: \.flags),
                "path": MemoryLayout<byol_source>.offset(of: \.path),
                "data": MemoryLayout<byol_source>.offset(of: \.data),
                "data_len": MemoryLayout<byol_source>.offset(of: \.data_len),
                "sha256": MemoryLayout<byol_source>.offset(of: \.sha256),
                "read": MemoryLayout<byol_source>.offset(of: \.read),
                "user": MemoryLayout<byol_source>.offset(of: \.user),
            ]
        ),
        "byol_model_info": (
            MemoryLayout<byol_model_info>.size,
            [
                "struct_size": MemoryLayout<byol_model_info>.offset(of: \.struct_size),
                "input_type": MemoryLayout<byol_model_info>.offset(of: \.input_type),
                "channels": MemoryLayout<byol_model_info>.offset(of: \.channels),
                "height": MemoryLayout<byol_model_info>.offset(of: \.height),
                "width": MemoryLayout<byol_model_info>.offset(of: \.width),
                "dimension": MemoryLayout<byol_model_info>.offset(of: \.dimension),
                "has_contract": MemoryLayout<byol_model_info>.offset(of: \.has_contract),
                "has_external_data": MemoryLayout<byol_model_info>.offset(of: \.has_external_data),
                "nodes": MemoryLayout<byol_model_info>.offset(of: \.nodes),
                "opset": MemoryLayout<byol_model_info>.offset(of: \.opset),
                "sha256": MemoryLayout<byol_model_info>.offset(of: \.sha256),
                "producer": MemoryLayout<byol_model_info>.offset(of: \.producer),
                "input_name": MemoryLayout<byol_model_info>.offset(of: \.input_name),
                "output_name": MemoryLayout<byol_model_info>.offset(of: \.output_name),
            ]
        ),
        "byol_contract": (
            MemoryLayout<byol_contract>.size,
            [
                "struct_size": MemoryLayout<byol_contract>.offset(of: \.struct_size),
                "channels": MemoryLayout<byol_contract>.offset(of: \.channels),
                "height": MemoryLayout<byol_contract>.offset(of: \.height),
                "width": MemoryLayout<byol_contract>.offset(of: \.width),
                "resize": MemoryLayout<byol_contract>.offset(of: \.resize),
                "resize_size": MemoryLayout<byol_contract>.offset(of: \.resize_size),
                "filter": MemoryLayout<byol_contract>.offset(of: \.filter),
                "flags": MemoryLayout<byol_contract>.offset(of: \.flags),
                "mean": MemoryLayout<byol_contract>.offset(of: \.mean),
                "deviation": MemoryLayout<byol_contract>.offset(of: \.deviation),
            ]
        ),
        "byol_encoder_options": (
            MemoryLayout<byol_encoder_options>.size,
            [
                "struct_size": MemoryLayout<byol_encoder_options>.offset(of: \.struct_size),
                "sessions": MemoryLayout<byol_encoder_options>.offset(of: \.sessions),
                "max_model_bytes": MemoryLayout<byol_encoder_options>.offset(of: \.max_model_bytes),
                "max_image_pixels": MemoryLayout<byol_encoder_options>.offset(of: \.max_image_pixels),
                "max_image_bytes": MemoryLayout<byol_encoder_options>.offset(of: \.max_image_bytes),
                "contract": MemoryLayout<byol_encoder_options>.offset(of: \.contract),
                "output": MemoryLayout<byol_encoder_options>.offset(of: \.output),
            ]
        ),
        "byol_encoder_info": (
            MemoryLayout<byol_encoder_info>.size,
            [
                "struct_size": MemoryLayout<byol_encoder_info>.offset(of: \.struct_size),
                "dimension": MemoryLayout<byol_encoder_info>.offset(of: \.dimension),
                "sessions": MemoryLayout<byol_encoder_info>.offset(of: \.sessions),
                "threads": MemoryLayout<byol_encoder_info>.offset(of: \.threads),
                "channels": MemoryLayout<byol_encoder_info>.offset(of: \.channels),
                "height": MemoryLayout<byol_encoder_info>.offset(of: \.height),
                "width": MemoryLayout<byol_encoder_info>.offset(of: \.width),
                "resize": MemoryLayout<byol_encoder_info>.offset(of: \.resize),
                "resize_size": MemoryLayout<byol_encoder_info>.offset(of: \.resize_size),
                "filter": MemoryLayout<byol_encoder_info>.offset(of: \.filter),
                "mean": MemoryLayout<byol_encoder_info>.offset(of: \.mean),
                "deviation": MemoryLayout<byol_encoder_info>.offset(of: \.deviation),
                "sha256": MemoryLayout<byol_encoder_info>.offset(of: \.sha256),
            ]
        ),
        "byol_encoder": (
            MemoryLayout<byol_encoder>.size,
            [
                "id": MemoryLayout<byol_encoder>.offset(of: \.id)
            ]
        ),
        "byol_image": (
            MemoryLayout<byol_image>.size,
            [
                "struct_size": MemoryLayout<byol_image>.offset(of: \.struct_size),
                "format": MemoryLayout<byol_image>.offset(of: \.format),
                "width": MemoryLayout<byol_image>.offset(of: \.width),
                "height": MemoryLayout<byol_image>.offset(of: \.height),
                "stride": MemoryLayout<byol_image>.offset(of: \.stride),
                "data": MemoryLayout<byol_image>.offset(of: \.data),
                "data_len": MemoryLayout<byol_image>.offset(of: \.data_len),
                "alpha": MemoryLayout<byol_image>.offset(of: \.alpha),
                "orientation": MemoryLayout<byol_image>.offset(of: \.orientation),
                "region_x": MemoryLayout<byol_image>.offset(of: \.region_x),
                "region_y": MemoryLayout<byol_image>.offset(of: \.region_y),
                "region_width": MemoryLayout<byol_image>.offset(of: \.region_width),
                "region_height": MemoryLayout<byol_image>.offset(of: \.region_height),
            ]
        ),
        "byol_image_info": (
            MemoryLayout<byol_image_info>.size,
            [
                "struct_size": MemoryLayout<byol_image_info>.offset(of: \.struct_size),
                "width": MemoryLayout<byol_image_info>.offset(of: \.width),
                "height": MemoryLayout<byol_image_info>.offset(of: \.height),
                "channels": MemoryLayout<byol_image_info>.offset(of: \.channels),
                "bits": MemoryLayout<byol_image_info>.offset(of: \.bits),
                "has_alpha": MemoryLayout<byol_image_info>.offset(of: \.has_alpha),
                "orientation": MemoryLayout<byol_image_info>.offset(of: \.orientation),
                "format": MemoryLayout<byol_image_info>.offset(of: \.format),
            ]
        ),
        "byol_extract_options": (
            MemoryLayout<byol_extract_options>.size,
            [
                "struct_size": MemoryLayout<byol_extract_options>.offset(of: \.struct_size),
                "flags": MemoryLayout<byol_extract_options>.offset(of: \.flags),
                "element": MemoryLayout<byol_extract_options>.offset(of: \.element),
                "reserved": MemoryLayout<byol_extract_options>.offset(of: \.reserved),
                "packed": MemoryLayout<byol_extract_options>.offset(of: \.packed),
                "packed_len": MemoryLayout<byol_extract_options>.offset(of: \.packed_len),
                "scales": MemoryLayout<byol_extract_options>.offset(of: \.scales),
            ]
        ),
        "byol_head_info": (
            MemoryLayout<byol_head_info>.size,
            [
                "struct_size": MemoryLayout<byol_head_info>.offset(of: \.struct_size),
                "classes": MemoryLayout<byol_head_info>.offset(of: \.classes),
                "dimension": MemoryLayout<byol_head_info>.offset(of: \.dimension),
                "converged": MemoryLayout<byol_head_info>.offset(of: \.converged),
                "examples": MemoryLayout<byol_head_info>.offset(of: \.examples),
                "l2": MemoryLayout<byol_head_info>.offset(of: \.l2),
                "encoder_sha256": MemoryLayout<byol_head_info>.offset(of: \.encoder_sha256),
                "temperature": MemoryLayout<byol_head_info>.offset(of: \.temperature),
            ]
        ),
        "byol_head": (
            MemoryLayout<byol_head>.size,
            [
                "id": MemoryLayout<byol_head>.offset(of: \.id)
            ]
        ),
        "byol_fit_options": (
            MemoryLayout<byol_fit_options>.size,
            [
                "struct_size": MemoryLayout<byol_fit_options>.offset(of: \.struct_size),
                "max_iterations": MemoryLayout<byol_fit_options>.offset(of: \.max_iterations),
                "l2": MemoryLayout<byol_fit_options>.offset(of: \.l2),
                "tolerance": MemoryLayout<byol_fit_options>.offset(of: \.tolerance),
                "threads": MemoryLayout<byol_fit_options>.offset(of: \.threads),
                "standardize": MemoryLayout<byol_fit_options>.offset(of: \.standardize),
                "class_weights": MemoryLayout<byol_fit_options>.offset(of: \.class_weights),
                "sample_weights": MemoryLayout<byol_fit_options>.offset(of: \.sample_weights),
                "class_weights_len": MemoryLayout<byol_fit_options>.offset(of: \.class_weights_len),
            ]
        ),
        "byol_fit_report": (
            MemoryLayout<byol_fit_report>.size,
            [
                "struct_size": MemoryLayout<byol_fit_report>.offset(of: \.struct_size),
                "converged": MemoryLayout<byol_fit_report>.offset(of: \.converged),
                "iterations": MemoryLayout<byol_fit_report>.offset(of: \.iterations),
                "passes": MemoryLayout<byol_fit_report>.offset(of: \.passes),
                "objective": MemoryLayout<byol_fit_report>.offset(of: \.objective),
                "gap": MemoryLayout<byol_fit_report>.offset(of: \.gap),
                "l2": MemoryLayout<byol_fit_report>.offset(of: \.l2),
                "seconds": MemoryLayout<byol_fit_report>.offset(of: \.seconds),
            ]
        ),
        "byol_metrics": (
            MemoryLayout<byol_metrics>.size,
            [
                "struct_size": MemoryLayout<byol_metrics>.offset(of: \.struct_size),
                "classes": MemoryLayout<byol_metrics>.offset(of: \.classes),
                "examples": MemoryLayout<byol_metrics>.offset(of: \.examples),
                "top1": MemoryLayout<byol_metrics>.offset(of: \.top1),
                "top5": MemoryLayout<byol_metrics>.offset(of: \.top5),
                "balanced": MemoryLayout<byol_metrics>.offset(of: \.balanced),
                "log_loss": MemoryLayout<byol_metrics>.offset(of: \.log_loss),
                "calibration_error": MemoryLayout<byol_metrics>.offset(of: \.calibration_error),
                "top1_low": MemoryLayout<byol_metrics>.offset(of: \.top1_low),
                "top1_high": MemoryLayout<byol_metrics>.offset(of: \.top1_high),
            ]
        ),
        "byol_features_info": (
            MemoryLayout<byol_features_info>.size,
            [
                "struct_size": MemoryLayout<byol_features_info>.offset(of: \.struct_size),
                "dimension": MemoryLayout<byol_features_info>.offset(of: \.dimension),
                "rows": MemoryLayout<byol_features_info>.offset(of: \.rows),
                "classes": MemoryLayout<byol_features_info>.offset(of: \.classes),
                "has_labels": MemoryLayout<byol_features_info>.offset(of: \.has_labels),
                "has_names": MemoryLayout<byol_features_info>.offset(of: \.has_names),
                "has_encoder": MemoryLayout<byol_features_info>.offset(of: \.has_encoder),
                "encoder_sha256": MemoryLayout<byol_features_info>.offset(of: \.encoder_sha256),
            ]
        ),
        "byol_features": (
            MemoryLayout<byol_features>.size,
            [
                "id": MemoryLayout<byol_features>.offset(of: \.id)
            ]
        ),
        "byol_trainer_info": (
            MemoryLayout<byol_trainer_info>.size,
            [
                "struct_size": MemoryLayout<byol_trainer_info>.offset(of: \.struct_size),
                "dimension": MemoryLayout<byol_trainer_info>.offset(of: \.dimension),
                "examples": MemoryLayout<byol_trainer_info>.offset(of: \.examples),
                "classes": MemoryLayout<byol_trainer_info>.offset(of: \.classes),
                "is_fitted": MemoryLayout<byol_trainer_info>.offset(of: \.is_fitted),
                "encoder_sha256": MemoryLayout<byol_trainer_info>.offset(of: \.encoder_sha256),
            ]
        ),
        "byol_search_options": (
            MemoryLayout<byol_search_options>.size,
            [
                "struct_size": MemoryLayout<byol_search_options>.offset(of: \.struct_size),
                "folds": MemoryLayout<byol_search_options>.offset(of: \.folds),
                "patience": MemoryLayout<byol_search_options>.offset(of: \.patience),
                "reserved": MemoryLayout<byol_search_options>.offset(of: \.reserved),
                "held_out": MemoryLayout<byol_search_options>.offset(of: \.held_out),
                "seed": MemoryLayout<byol_search_options>.offset(of: \.seed),
                "penalties": MemoryLayout<byol_search_options>.offset(of: \.penalties),
                "penalties_len": MemoryLayout<byol_search_options>.offset(of: \.penalties_len),
            ]
        ),
        "byol_trainer": (
            MemoryLayout<byol_trainer>.size,
            [
                "id": MemoryLayout<byol_trainer>.offset(of: \.id)
            ]
        ),
    ]

    @Test func structsLieAsInC() throws {
        let table = try String(contentsOfFile: environment("BYOL_TEST_LAYOUT"), encoding: .utf8)
        var seen = 0
        for line in table.split(separator: "\n") {
            let parts = line.split(separator: "\t", omittingEmptySubsequences: false)
            let (name, field) = (String(parts[0]), String(parts[1]))
            let known = try #require(structs[name], "\(name) is not listed above")
            if field.isEmpty {
                #expect(known.size == Int(parts[3]), "\(name)")
                // Arrays step by stride, which is C's size.
                continue
            }
            #expect(known.offsets[field] == Int(parts[2]), "\(name).\(field)")
            seen += 1
        }
        #expect(seen == structs.values.map(\.offsets.count).reduce(0, +))
    }

    @Test func everyFunctionAndCodeIsBound() throws {
        let header = try String(contentsOfFile: environment("BYOL_TEST_HEADER"), encoding: .utf8)
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appendingPathComponent("../../Sources/Byol")
        var sources = ""
        for file in try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil) {
            sources += try String(contentsOf: file, encoding: .utf8)
        }
        // Structs are started with their size by Swift itself; only what has other defaults than zero asks libbyol.
        let started = header.matches(of: /(byol_\w+)_init\(/).map { String($0.1) }.filter { $0 != "byol_fit_options" }
        for name in Set(started) {
            #expect(sources.contains("extension \(name): CStruct"), "\(name)")
        }
        let functions = Set(header.matches(of: /\b(byol_\w+)\(/).map { String($0.1) })
            .filter { !$0.hasSuffix("_init") || $0 == "byol_fit_options_init" }
        #expect(functions.count > 30)
        for name in functions where !sources.contains("\(name)(") {
            Issue.record("\(name) is not bound")
        }
        let codes = Set(header.matches(of: /#define (BYOL_E_\w+)/).map { String($0.1) })
        #expect(codes.count > 30)
        for code in codes where !sources.contains("\(code))") {
            Issue.record("\(code) has no name in ByolError.Code")
        }
        #expect(Library.versionNumber == BYOL_VERSION_MAJOR * 1_000_000 + BYOL_VERSION_MINOR * 1_000 + BYOL_VERSION_PATCH)
    }
}
