import Foundation
import Testing

@testable import Byol

/// Asynchronous calls: they stop with their task, and leave Swift's threads to others.
@Suite(.serialized)
struct AsyncTests {
    @Test func manyTasksGetTheSameBits() async throws {
        let encoder = try await ImageEncoder(.path(modelPath()))
        let (pictures, labels, pixels) = bands(count)
        let want = try await encoder.extract(pictures)
        let (head, report) = try await Head.fit(Examples(want, labels: labels, encoder: encoder))
        #expect(report.converged)
        let prediction = try head.predict(want)
        @Sendable func compare() async throws {
            for _ in 0..<5 {
                #expect(try await encoder.extract(pictures) == want)
                #expect(try await encoder.extract(pixels: pixels.flatMap { $0 }, count: count) == want)
                #expect(try await head.classify(pictures, with: encoder) == prediction)
            }
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<16 { group.addTask { try await compare() } }
            try await group.waitForAll()
        }
        #expect(try await encoder.extractEach(pictures).features == want)
        #expect(try await head.classifyEach(pictures, with: encoder).labels == labels)
        let file = try await encoder.extract(encoded: [bitmap()])
        #expect(try await encoder.extractEach(encoded: [Data(bitmap())]).features == file)
        #expect(try await encoder.extractEach(files: [URL(fileURLWithPath: "/no/such")]).statuses == [.notFound])
        await #expect(throws: ByolError.self) { try await encoder.extract(files: [URL(fileURLWithPath: "/no/such")]) }
        await #expect(throws: ByolError.self) { try await encoder.extract(values: [1], count: 1) }
        await #expect(throws: ByolError.self) { try await ImageEncoder(.path("/no/such")) }
    }

    @Test func cancellingATaskStopsTheWork() async throws {
        let encoder = try await ImageEncoder(.path(modelPath()))
        let few = Array(repeating: bands(1).pictures[0], count: 2_000)
        let clock = ContinuousClock()
        let share = try await clock.measure { _ = try await encoder.extract(few) }
        let many = Array(repeating: few[0], count: 200_000)
        let task = Task { try await encoder.extract(many) }
        try await Task.sleep(for: share)
        let late = await clock.measure {
            task.cancel()
            let result = await task.result
            #expect((result.failure as? ByolError)?.code == .cancelled)
        }
        // All of it would take a hundred shares.
        #expect(late < share * 20, "stopped after \(late); a hundredth takes \(share)")
        let never = Task {
            try await Task.sleep(for: .seconds(3600))
        }
        never.cancel()
        _ = await never.result
        let before = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return try await encoder.extract(many)
        }
        let result = await before.result
        #expect((result.failure as? ByolError)?.code == .cancelled)
        #expect(Library.liveHandles(.cancellation) == 0)
    }

    @Test func workLeavesTheCooperativePoolFree() async throws {
        let encoder = try await ImageEncoder(.path(modelPath()))
        let many = Array(repeating: bands(1).pictures[0], count: 5_000)
        let done = Counter()
        // More calls than the pool has threads; if they worked there, nothing else could run until one is done.
        let calls = (0..<4 * ProcessInfo.processInfo.activeProcessorCount).map { _ in
            Task {
                _ = try await encoder.extract(many)
                done.add()
            }
        }
        try await Task.sleep(for: .milliseconds(50))
        for _ in 0..<100 { await Task.detached { await Task.yield() }.value }
        #expect(done.value == 0, "others had to wait for a call")
        for call in calls { call.cancel() }
        for call in calls { _ = await call.result }
    }

    @Test func fitsTellHowFarTheyAre() async throws {
        let (pictures, labels, _) = bands(count)
        let encoder = try await ImageEncoder(.path(modelPath()))
        let examples = Examples(try await encoder.extract(pictures), labels: labels, encoder: encoder)
        var iterations: [Int] = []
        var last: (head: Head, report: FitReport)?
        for try await event in Head.fitting(examples) {
            switch event {
            case .progress(let progress): iterations.append(progress.iteration)
            case .finished(let head, let report): last = (head, report)
            }
        }
        let finished = try #require(last)
        #expect(iterations.last == finished.report.iterations)
        #expect(iterations == iterations.sorted())
        let trainer = try Trainer(of: encoder)
        for label in 0..<classCount { _ = try trainer.addClass("\(label)") }
        try trainer.add(examples.features, labels: examples.labels)
        for again in [false, true] {
            var (steps, head): (Int, Head?) = (0, nil)
            for try await event in trainer.fitting(again: again) {
                switch event {
                case .progress(let progress): steps = progress.iteration
                case .finished(let fitted, let report):
                    #expect(steps == report.iterations)
                    head = fitted
                }
            }
            #expect(try #require(head).predict(examples.features).labels == labels)
        }
        let again = try await Head.fit(examples)
        #expect(try finished.head.logits(examples.features) == again.head.logits(examples.features))
    }

    @Test func leavingTheLoopStopsTheFit() async throws {
        let (examples, options) = try hardExamples()
        for try await event in Head.fitting(examples, options: options) {
            guard case .progress = event else {
                Issue.record("the fit ended by itself")
                return
            }
            break
        }
        // The fit's thread sees it within milliseconds, and then lets go of the token.
        for _ in 0..<300 where Library.liveHandles(.cancellation) != 0 { try await Task.sleep(for: .milliseconds(10)) }
        #expect(Library.liveHandles(.cancellation) == 0)
    }

    @Test func cancellingTheTaskEndsTheLoopWithAnError() async throws {
        let (examples, options) = try hardExamples()
        let task = Task {
            for try await event in Head.fitting(examples, options: options) {
                if case .progress = event { withUnsafeCurrentTask { $0?.cancel() } }
            }
        }
        let result = await task.result
        #expect((result.failure as? ByolError)?.code == .cancelled)
        let fit = Task { try await Head.fit(examples, options: options) }
        try await Task.sleep(for: .milliseconds(100))
        fit.cancel()
        let error = await fit.result.failure as? ByolError
        #expect(error?.code == .cancelled)
        for _ in 0..<300 where Library.liveHandles(.cancellation) != 0 { try await Task.sleep(for: .milliseconds(10)) }
        #expect(Library.liveHandles(.cancellation) == 0)
    }

    @Test func trainersStopWithTheirTask() async throws {
        let (examples, options) = try hardExamples()
        let trainer = try Trainer(dimension: examples.features.columns)
        for label in 0..<20 { _ = try trainer.addClass("class \(label)") }
        try trainer.add(examples.features, labels: examples.labels)
        for work in [
            { @Sendable in _ = try await trainer.fit(options: options) },
            { @Sendable in _ = try await trainer.refit(options: options) },
            { @Sendable in _ = try await trainer.search(options: options) },
        ] {
            let task = Task { try await work() }
            try await Task.sleep(for: .milliseconds(100))
            task.cancel()
            #expect((await task.result.failure as? ByolError)?.code == .cancelled)
        }
        let encoder = try await ImageEncoder(.path(modelPath()))
        let own = try Trainer(of: encoder)
        _ = try own.addClass("one")
        let many = Array(repeating: bands(1).pictures[0], count: 200_000)
        let task = Task { try await own.add(many, labels: many.map { _ in 0 }, with: encoder) }
        try await Task.sleep(for: .milliseconds(100))
        task.cancel()
        #expect((await task.result.failure as? ByolError)?.code == .cancelled)
        #expect(try own.info().examples == 0)
        for _ in 0..<300 where Library.liveHandles(.cancellation) != 0 { try await Task.sleep(for: .milliseconds(10)) }
        #expect(Library.liveHandles(.cancellation) == 0)
    }

    @Test func errorsAreTyped() throws {
        var caught: ByolError.Code?
        do {
            _ = try Head(path: "/no/such/head")
        } catch {
            // `error` is a ByolError here, without a cast.
            caught = error.code
        }
        #expect(caught == .notFound)
        #expect(ByolError.Code.notFound.name == "BYOL_E_NOT_FOUND")
        #expect(ByolError.Code.noMemory.isRetryable && !ByolError.Code.shape.isRetryable)
        #expect("\(ByolError(.shape, "so"))" == "so (BYOL_E_SHAPE)")
    }
}

final class Counter: Sendable {
    private let lock = NSLock()
    nonisolated(unsafe) private var count = 0

    func add() { lock.withLock { count += 1 } }
    var value: Int { lock.withLock { count } }
}

extension Result {
    var failure: Failure? {
        guard case .failure(let error) = self else { return nil }
        return error
    }
}
