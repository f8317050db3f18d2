import Foundation
import XCTest

@testable import Byol

/// Nothing stays open that nobody holds.
final class LeakTests: XCTestCase {
    func testNothingIsLeftOfAHundredThousand() throws {
        XCTAssertEqual(Library.liveHandles(), 0)
        let features = try Matrix(rows: [[1, 2], [3, 4], [5, 7]] as [[Float]])
        let file = try Head.fit(Examples(features, labels: [0, 1, 1])).head.data()
        for round in 0..<100_000 {
            let head = try Head(data: file)
            if round % 2 == 0 { head.close() }
            _ = try Cancellation()
        }
        XCTAssertEqual(Library.liveHandles(), 0)
        let bytes = try Data(contentsOf: URL(fileURLWithPath: modelPath()))
        for _ in 0..<200 { _ = try ImageEncoder(.bytes(bytes)) }
        XCTAssertEqual(Library.liveHandles(), 0)
    }

    func testAnEncoderLivesAsLongAsItsCalls() async throws {
        let pictures = bands(count).pictures
        let want = try await open().extract(pictures)
        // Nobody but the call holds it.
        let got = try await ImageEncoder(.path(modelPath())).extract(pictures)
        XCTAssertEqual(got, want)
        // The thread that worked lets go of the encoder a moment after its answer.
        for _ in 0..<300 where Library.liveHandles() != 0 { try await Task.sleep(for: .milliseconds(10)) }
        XCTAssertEqual(Library.liveHandles(), 0)
    }

    func testAFailedSetLogKeepsNothing() throws {
        final class Owner: Sendable {}
        weak var left: Owner?
        do {
            let owner = Owner()
            left = owner
            try Library.setLog(.info) { _, _ in withExtendedLifetime(owner) {} }
            XCTAssertNotNil(left)
        }
        XCTAssertNotNil(left)
        try Library.setLog(.off, nil)
        XCTAssertNil(left)
    }
}
