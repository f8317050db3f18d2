import Foundation
import XCTest

@testable import Byol

/// What a process can do only once, and so what tests/swift/run.sh runs alone, with a BYOL_ONNXRUNTIME that is not there.
final class AloneTests: XCTestCase {
    func testAMissingLibraryIsAnErrorThatNamesThePlaces() throws {
        let place = try environment("BYOL_ONNXRUNTIME")
        try XCTSkipUnless(ProcessInfo.processInfo.environment["BYOL_TEST_ALONE"] != nil, "runs alone")
        for attempt in [{ _ = try open() }, { _ = try Runtime() }, { _ = try Runtime(library: "/no/such/folder") }] {
            XCTAssertThrowsError(try attempt()) { error in
                guard let error = error as? ByolError else { return XCTFail("\(error)") }
                XCTAssertEqual(error.code, .runtime)
                XCTAssertTrue(error.message.contains(place) || error.message.contains("/no/such/folder"), error.message)
            }
        }
        // What needs no ONNX Runtime works without.
        XCTAssertEqual(try Source.path(modelPath()).inspect().width, edge)
        try Library.shutdown()
        expect(.shutdown) { try Cancellation() }
        expect(.shutdown) { try Source.path(modelPath()).inspect() }
        XCTAssertEqual(Library.liveHandles(), 0)
    }
}
